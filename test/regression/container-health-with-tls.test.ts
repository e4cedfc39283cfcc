/**
 * Symptom: the container of a hub that has a certificate was unhealthy for ever.
 * Cause: the Dockerfile's health check spoke plain HTTP alone, and a hub that others can reach speaks TLS.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { makeSelfSigned } from '../support/self-signed.ts';

const dockerfile = readFileSync(new URL('../../Dockerfile', import.meta.url), 'utf8');
/** The exec form, which is a JSON array of strings, of the hub's check: its port is in it. */
const [check = '[]'] = /(?<=^HEALTHCHECK CMD )\[.*7080.*\]$/m.exec(dockerfile) ?? [];

function exitCode(port: number): Promise<unknown> {
  const [, ...args] = JSON.parse(check.replaceAll('7080', String(port))) as string[];
  return new Promise((resolve) => execFile(process.execPath, args, (error) => resolve(error?.code ?? 0)));
}

test.each(['http', 'https'])('a hub that speaks %s is healthy when it says so, and not otherwise', async (scheme) => {
  await using keys = await makeSelfSigned();
  let status = 200;
  const answer: RequestListener = (request, response) => response.writeHead(request.url === '/livez' ? status : 404).end();
  const tls = { cert: keys.cert, key: readFileSync(keys.keyPath) };
  const server = scheme === 'https' ? createTlsServer(tls, answer) : createServer(answer);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  expect(await exitCode(port)).toBe(0);
  status = 503;
  expect(await exitCode(port)).toBe(1);
  server.close();
  server.closeAllConnections();
  await once(server, 'close');
  expect(await exitCode(port)).toBe(1);
});

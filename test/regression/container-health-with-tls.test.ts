/**
 * Symptom: the container of a hub that has a certificate was unhealthy for ever.
 * Cause: the Dockerfile's health check spoke plain HTTP alone to the address that hosts dial, and a hub that others can reach speaks TLS there.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { makeSelfSigned } from '../support/self-signed.ts';
import { startTestHub } from '../support/test-hub.ts';

const dockerfile = readFileSync(new URL('../../Dockerfile', import.meta.url), 'utf8');
/** Where the hub of the container listens for its own check. */
const [healthListen = ''] = /(?<=^ENV FAIRLEAD_HUB_HEALTH_LISTEN=)\S+$/m.exec(dockerfile) ?? [];
/** The exec form, which is a JSON array of strings, of the check that asks there. */
const check = [...dockerfile.matchAll(/(?<=^HEALTHCHECK CMD )\[.*\]$/gm)].map(String).find((text) => text.includes(healthListen));

function exitCode(port: number): Promise<unknown> {
  // SAFETY: of a shape that Docker asks for; a check of another fails the test.
  const [, ...args] = JSON.parse((check ?? '').replaceAll(healthListen, `127.0.0.1:${port}`)) as string[];
  return new Promise((resolve) => execFile(process.execPath, args, (error) => resolve(error?.code ?? 0)));
}

test.each(['without', 'with'])(
  'the check of the container finds a hub %s a certificate healthy while it is there',
  async (having) => {
    await using keys = await makeSelfSigned();
    const tls = having === 'with' ? { tlsCert: keys.certPath, tlsKey: keys.keyPath } : {};
    let port: number;
    {
      await using hub = await startTestHub({ ...tls, healthListen: healthListen.replace(/\d+$/, '0') });
      port = hub.hub.healthAddress?.port ?? 0;
      expect(new URL(hub.url).protocol).toBe(having === 'with' ? 'https:' : 'http:');
      expect(await exitCode(port)).toBe(0);
    }
    expect(await exitCode(port)).toBe(1);
  },
);

test('it finds one that answers with an error unhealthy', async () => {
  const server = createServer((_request, response) => response.writeHead(503).end());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  // SAFETY: it listens on TCP.
  const { port } = server.address() as AddressInfo;
  expect(await exitCode(port)).toBe(1);
  server.close();
});

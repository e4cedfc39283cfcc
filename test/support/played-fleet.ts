/** A real hub and real agents whose VMs are played, with the command line to order them about. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import type { JsonObject } from '../../shared/errors.ts';
import { type PlayedHost, startPlayedHost } from './played-host.ts';
import { startTestHub, type TestHub } from './test-hub.ts';
import type { CliResult } from './up.ts';

export const ENTRY = fileURLToPath(new URL('../../bin/fairlead.ts', import.meta.url));

export interface PlayedFleet extends AsyncDisposable {
  readonly hub: TestHub;
  readonly hosts: readonly PlayedHost[];
  /** A token with which further hosts enrol, and the directory for what they keep. */
  readonly token: string;
  readonly directory: string;
  /** @throws Error `CODE: message` */
  call(method: string, params: object): Promise<JsonObject>;
  /** The arguments with which a program is the command line of this hub. */
  args(...args: readonly string[]): string[];
  cli(args: readonly string[], input?: string): Promise<CliResult>;
}

/** Zones are the first letters of the names. */
export async function startPlayedFleet(names: readonly string[]): Promise<PlayedFleet> {
  await using scope = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'played-'));
  scope.defer(() => rm(directory, { recursive: true, force: true }));
  const hub = scope.use(await startTestHub());
  const token = await hub.hub.bootstrap.enrolToken({ maxUses: names.length + 10 });
  const hosts = await Promise.all(names.map((name) => startPlayedHost(hub.url, name, { directory, token })));
  for (const host of hosts) scope.use(host);
  await Promise.all(names.map((name) => hub.logged(`host ${name} connected`)));
  const all = scope.move();
  const args = (...more: readonly string[]): string[] => [ENTRY, '--hub', hub.url, '--token', hub.adminToken, ...more];
  return {
    hub,
    hosts,
    token,
    directory,
    call: async (method, params) => {
      const { body } = await hub.post(method, params);
      if (body.error !== undefined) throw new Error(`${String(body.error.data['code'])}: ${body.error.message}`);
      // SAFETY: it came out of JSON.parse.
      return body.result as JsonObject;
    },
    args,
    cli: async (more, input = '') => {
      const child = spawn(process.execPath, args(...more), { stdio: ['pipe', 'pipe', 'pipe'] });
      child.stdin.end(input);
      const [stdout, stderr, code] = await Promise.all([
        text(child.stdout),
        text(child.stderr),
        new Promise<number | null>((resolve) => child.on('close', resolve)),
      ]);
      return { code, stdout, stderr };
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** Resolves once the rollout stands so. */
export async function becomes({ call }: Pick<PlayedFleet, 'call'>, rollout: string, status: string): Promise<void> {
  await expect.poll(async () => (await call('rollout.get', { rollout }))['status'], { timeout: 30_000 }).toBe(status);
}

/** What `ip` of the host answers is played by a script; the bridge asked for is the loopback, an interface that every host has. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { makeTap } from '../../agent/vm/network/tap.ts';

async function ipOnPath(script: string): Promise<AsyncDisposable> {
  const directory = await mkdtemp(join(tmpdir(), 'fl-ip-'));
  await writeFile(join(directory, 'ip'), `#!/bin/sh\n${script}\n`);
  await chmod(join(directory, 'ip'), 0o755);
  vi.stubEnv('PATH', `${directory}:${process.env['PATH']}`);
  return {
    async [Symbol.asyncDispose]() {
      vi.unstubAllEnvs();
      await rm(directory, { recursive: true });
    },
  };
}

function tapOnLoopback(): Promise<string> {
  const network = { type: 'bridge', id: 'net0', slot: 0, bridge: 'lo' } as const;
  const signal = AbortSignal.timeout(10_000);
  return makeTap({ dir: '/nowhere', vm: 'web' }, network, { mac: '52:54:00:00:00:01', user: undefined, signal });
}

describe('a tap', () => {
  test('is not made by the ip of busybox, and that is said', async () => {
    await using _ = await ipOnPath('echo "BusyBox v1.35.0 (Debian 1:1.35.0-4+b1) multi-call binary." >&2; exit 1');
    await expect(tapOnLoopback()).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message:
        "could not make network net0 of VM web: the `ip` of this host is busybox's, which knows too little: apt install iproute2",
    });
  });

  test('is not made where ip fails, and its first words say why', async () => {
    await using _ = await ipOnPath('echo "no such thing" >&2; echo "more" >&2; exit 2');
    await expect(tapOnLoopback()).rejects.toMatchObject({
      code: 'PROCESS_FAILED',
      message: 'could not make network net0 of VM web: ip ended with 2: no such thing',
    });
  });

  test('is not put on what is no bridge', async () => {
    await using _ = await ipOnPath(`echo '[{"mtu":65536}]'`);
    await expect(tapOnLoopback()).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

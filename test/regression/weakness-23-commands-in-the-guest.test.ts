/**
 * Weakness 23: a command without input never saw the end of it, output was kept whole and told at the end, a child in the background held
 * the call, a caller who left stopped nothing, and timeout, signal and exit code were one number. (More: test/guest/guest-agent.test.ts.)
 */
import { expect, test } from 'vitest';
import { Guests } from '../../agent/vm/guest-agent/guests.ts';
import { demoImage } from '../../cli/image/demo-image.ts';
import type { ParamsInput } from '../../shared/protocol/methods.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { silent, spec, testHost, whyNoQemu } from '../support/vm.ts';

const image = demoImage();
const missing = whyNoQemu() ?? (image === undefined ? 'the guest image is not in the cache: npm run setup' : undefined);
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)(
  'a command in a guest has an end of input, bounded output, and one clear way in which it ended',
  { timeout: 180_000 },
  async () => {
    await using host = await testHost();
    const { kernel, initrd, args } = image ?? {};
    const guest = { name: 'web', memory: { bytes: '192MiB' }, boot: { kernel, initrd, args }, guestAgent: {} };
    await host.manager.run(spec(guest));
    using guests = new Guests(host.manager, silent);
    const sh = (script: string, more: Partial<ParamsInput<'guest.exec'>> = {}) => {
      const params = { vm: 'web', path: 'sh', args: ['-c', script], answerTimeoutMs: 60_000, timeoutMs: 60_000, ...more };
      return guests.exec(parseParams('guest.exec', params), {});
    };

    expect(await sh('cat; echo end')).toMatchObject({ ended: { by: 'exit', code: 0 }, stdout: 'end\n' });
    expect(await sh('head -c 100000 /dev/zero', { maxOutputBytes: 1000 })).toMatchObject({ stdoutCutBytes: 99_000 });
    expect((await sh('exit 124')).ended).toEqual({ by: 'exit', code: 124 });
    expect((await sh('kill -9 $$')).ended).toEqual({ by: 'signal', signal: 9 });
    expect((await sh('sleep 4321', { timeoutMs: 500 })).ended).toMatchObject({ by: 'timeout', killed: true });

    const caller = new AbortController();
    const left = guests.exec(parseParams('guest.exec', { vm: 'web', path: 'sh', args: ['-c', 'exec sleep 4322'] }), {
      signal: caller.signal,
    });
    left.catch(() => {});
    expect((await sh('until pidof sleep; do usleep 10000; done')).ended).toEqual({ by: 'exit', code: 0 });
    caller.abort();
    await expect(left).rejects.toMatchObject({ code: 'CANCELLED' });
    expect((await sh('while pidof sleep; do usleep 10000; done')).ended).toEqual({ by: 'exit', code: 0 });
  },
);

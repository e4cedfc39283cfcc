/** A guest with something to lose: a count that rises, a file that only one process still has open, and a blob in its memory. */
import { expect } from 'vitest';
import type { VmManager } from '../../agent/vm/manager.ts';
import { inGuest } from './linux-vm.ts';

export const FILE_RAM = { bytes: '256MiB', backing: 'file' } as const;

export interface Work {
  /** Waits for the guest's next count. Fails when the work was not gone on with, from where it was. `now` is the agent's manager by then. */
  goesOn(now?: VmManager): Promise<void>;
}

/** Each line is `count held`: what is held is read back through the descriptor of a file that has no name any more. */
const LOOP = [
  'exec 3<>/tmp/held',
  'rm /tmp/held',
  'n=0',
  'while true; do n=$((n+1)); echo $n >&3; echo "$n $(wc -l </proc/$$/fd/3)" >/tmp/count.new; mv /tmp/count.new /tmp/count; sleep 0.05; done',
].join('\n');

const BEGIN = [
  'dd if=/dev/urandom of=/tmp/blob bs=1M count=8 2>/dev/null',
  'sha256sum /tmp/blob >/tmp/blob.sha',
  `printf '%s\\n' ${LOOP.split('\n')
    .map((line) => `'${line}'`)
    .join(' ')} >/tmp/loop`,
  'setsid sh /tmp/loop </dev/null >/dev/null 2>&1 &',
  'while [ ! -e /tmp/count ]; do sleep 0.05; done',
].join('\n');

const LOOK = [
  'a=$(cat /tmp/count)',
  'b=$a',
  'while [ "$a" = "$b" ]; do sleep 0.02; b=$(cat /tmp/count); done',
  'echo "$b $(sha256sum -c /tmp/blob.sha)"',
].join('; ');

export async function beginWork(manager: VmManager, vm: string): Promise<Work> {
  await inGuest(manager, vm, BEGIN.replaceAll('\n', '; ').replaceAll('&;', '&'));
  let last = 0;
  return {
    async goesOn(now = manager) {
      const seen = await inGuest(now, vm, LOOK);
      const [count, held, ...blob] = seen.split(' ');
      expect(blob.join(' ')).toBe('/tmp/blob: OK');
      expect(Number(count)).toBeGreaterThan(last);
      // Not a tick was left out: each has written its line.
      expect(held).toBe(count);
      last = Number(count);
    },
  };
}

/** What a guest works at that has something to lose: a count that rises, a file that only one process still has open, and a blob in its memory. */

/** Each line is `count held`: what is held is read back through the descriptor of a file that has no name any more. */
const LOOP = [
  'exec 3<>/tmp/held',
  'rm /tmp/held',
  'n=0',
  'while true; do n=$((n+1)); echo $n >&3; echo "$n $(wc -l </proc/$$/fd/3)" >/tmp/count.new; mv /tmp/count.new /tmp/count; sleep 0.05; done',
];

const begin = (blobMebibytes: number): string[] => [
  `dd if=/dev/urandom of=/tmp/blob bs=1M count=${blobMebibytes} 2>/dev/null`,
  'sha256sum /tmp/blob >/tmp/blob.sha',
  `printf '%s\\n' ${LOOP.map((line) => `'${line}'`).join(' ')} >/tmp/loop`,
  'setsid sh /tmp/loop </dev/null >/dev/null 2>&1 &',
  'while [ ! -e /tmp/count ]; do sleep 0.05; done',
];

/** A command of the guest's shell that begins the work, and ends once it has begun. */
export function workCommand({ blobMebibytes }: { readonly blobMebibytes: number }): string {
  return begin(blobMebibytes).join('; ').replaceAll('&;', '&');
}

/** One that waits for the next count and tells what is seen of the work (`seenOf`). */
export const LOOK_AT_WORK = [
  'a=$(cat /tmp/count)',
  'b=$a',
  'while [ "$a" = "$b" ]; do sleep 0.02; b=$(cat /tmp/count); done',
  'echo "$b $(sha256sum -c /tmp/blob.sha)"',
].join('; ');

export interface SeenWork {
  readonly count: number;
  /** As many as counted, unless a tick was left out: each has written its line. */
  readonly held: number;
  readonly blob: string;
}

export const WHOLE_BLOB = '/tmp/blob: OK';

export function seenOf(text: string): SeenWork {
  const [count, held, ...blob] = text.split(' ');
  return { count: Number(count), held: Number(held), blob: blob.join(' ') };
}

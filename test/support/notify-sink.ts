/** A stand-in for the service manager's notification socket; needs the C compiler that the add-on was built with. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface NotifySink extends AsyncDisposable {
  /** What NOTIFY_SOCKET would hold. */
  readonly path: string;
  /** The next datagram, in the order of sending. */
  next(): Promise<string>;
}

/** Listens at `name` in a folder of its own, or at the abstract name `name` where that starts with `@`. */
export async function notifySink(name: string): Promise<NotifySink> {
  const folder = mkdtempSync(join(tmpdir(), 'notify-'));
  const program = join(folder, 'sink');
  const source = join(import.meta.dirname, 'notify-sink.c');
  const compiled = spawnSync('cc', ['-o', program, source], { encoding: 'utf8' });
  if (compiled.status !== 0) throw new Error(`could not compile ${source}: ${compiled.error?.message ?? compiled.stderr}`);
  const path = name.startsWith('@') ? name : join(folder, name);
  const process = spawn(program, [path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const closed = once(process, 'close');
  const lines = createInterface(process.stdout)[Symbol.asyncIterator]();
  const next = async (): Promise<string> => {
    const line = await lines.next();
    if (line.done === true) throw new Error('the notify sink has ended');
    return line.value;
  };
  if ((await next()) !== 'bound') throw new Error('the notify sink did not bind');
  return {
    path,
    next,
    async [Symbol.asyncDispose]() {
      process.kill('SIGKILL');
      await closed;
      rmSync(folder, { recursive: true });
    },
  };
}

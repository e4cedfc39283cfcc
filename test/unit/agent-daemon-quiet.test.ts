import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DaemonQuiet } from '../../agent/streams/daemon-quiet.ts';

describe('a daemon that is to be left in peace', () => {
  let directory: string;
  let server: Server;
  let quiet: DaemonQuiet;
  /** The agent's end, guarded, and the daemon's. */
  let near: Socket;
  let far: Socket;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fl-quiet-'));
    server = createServer({ allowHalfOpen: true }).listen(join(directory, 's'));
    await once(server, 'listening');
    const accepted = once(server, 'connection');
    quiet = new DaemonQuiet();
    near = quiet.guard(connect({ path: join(directory, 's'), allowHalfOpen: true }));
    [far] = (await accepted) as [Socket];
  });
  afterEach(async () => {
    quiet.endAll();
    near.destroy();
    far.destroy();
    server.close();
    await rm(directory, { recursive: true, force: true });
  });

  const nextChunk = async (): Promise<string> => String((await once(far, 'data'))[0]);

  it('passes everything on while nothing is wrong', async () => {
    near.write('hello');
    expect(await nextChunk()).toBe('hello');
    near.destroy();
    far.resume();
    await once(far, 'end');
  });

  it('keeps back what is written while it is quiet, and makes it up in order', async () => {
    quiet.begin('paused');
    near.write('one ');
    near.write('two');
    expect(near.writableLength).toBe('one two'.length);
    let heard = '';
    far.on('data', (chunk) => {
      heard += String(chunk);
    });
    quiet.end('paused');
    while (heard.length < 'one two'.length) await once(far, 'data');
    expect(heard).toBe('one two');
  });

  it('reads no more than what was on its way while it is quiet, and the rest afterwards', async () => {
    let taken = '';
    near.setEncoding('utf8').on('data', (chunk: string) => {
      taken += chunk;
    });
    far.write('one ');
    await once(near, 'data');
    quiet.begin('paused');
    far.write('two ');
    await once(near, 'data');
    far.write('three');
    // A round trip through the event loop and the kernel: had it been read, it would be here.
    const other = connect(join(directory, 's'));
    await once(server, 'connection');
    other.destroy();
    expect(taken).toBe('one two ');
    quiet.end('paused');
    await once(near, 'data');
    expect(taken).toBe('one two three');
  });

  it('closes for the user at once and for the daemon only afterwards', async () => {
    quiet.begin('reset');
    const closed = once(near, 'close');
    near.destroy();
    await closed;
    let ended = false;
    far.once('end', () => {
      ended = true;
    });
    far.resume();
    // A round trip through the event loop and the kernel: had the descriptor been closed, the end would be here.
    const other = connect(join(directory, 's'));
    await once(server, 'connection');
    other.destroy();
    expect(ended).toBe(false);
    const end = once(far, 'end');
    quiet.end('reset');
    await end;
  });

  it('is about to be quiet once somebody has let it settle', async () => {
    expect(quiet.isSettled).toBe(false);
    quiet.touch();
    const settled = quiet.settle();
    expect(quiet.isSettled).toBe(true);
    await settled;
    expect([quiet.isSettled, quiet.reason]).toEqual([true, undefined]);
    const other = new DaemonQuiet();
    other.begin('paused');
    expect(other.isSettled).toBe(true);
    other.end('paused');
    expect(other.isSettled).toBe(false);
  });

  it('stays quiet until every reason is gone', () => {
    quiet.begin('paused');
    quiet.begin('reset');
    quiet.end('paused');
    expect(quiet.reason).toBe('reset');
    quiet.end('reset');
    expect(quiet.reason).toBeUndefined();
  });

  it('gives everything free when the daemon itself is gone', () => {
    quiet.begin('paused');
    quiet.endAll();
    expect(quiet.reason).toBeUndefined();
  });

  it('lets those go on who wait for its end, when the last reason is gone', async () => {
    await quiet.over();
    quiet.begin('paused');
    quiet.begin('reset');
    let isOver = false;
    const over = quiet.over().then(() => {
      isOver = true;
    });
    quiet.end('paused');
    await setImmediate();
    expect(isOver).toBe(false);
    // The end of one quiet is not the end of the next.
    quiet.end('reset');
    quiet.begin('paused');
    await setImmediate();
    expect(isOver).toBe(false);
    quiet.endAll();
    await over;
  });
});

import { EventEmitter, once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { identityOf } from '../../agent/process-identity.ts';
import { Revival } from '../../agent/streams/revival.ts';
import { type RevivalResult, Reviver } from '../../agent/streams/reviver.ts';

/** What a revival looks at of a socket; it emits `try` when it is tried. */
class Connection extends EventEmitter {
  bytesRead = 0;
  writableLength = 1;
  destroyed = false;
  untaken = 1000;
  paused = false;
  doubtful = true;
  quiet = false;
  loud = Promise.withResolvers<void>();
  tries = 0;
  results: RevivalResult[] = [];
  broken = 0;
  revivals: number[] = [];
  readonly revival = new Revival({
    // SAFETY: it has what is looked at.
    socket: this as unknown as Socket,
    reviver: {
      unavailable: undefined,
      untaken: () => this.untaken,
      revive: async (_, isStill) => {
        if (!isStill()) return 'left';
        this.tries += 1;
        this.emit('try');
        return this.results.shift() ?? 'idle';
      },
    },
    isDoubtful: () => this.doubtful,
    isQuiet: () => this.quiet,
    whenLoud: () => this.loud.promise,
    onRevived: (times) => this.revivals.push(times),
    onBroken: () => (this.broken += 1),
    firstMs: 2,
  });
  isPaused(): boolean {
    return this.paused;
  }
}

/** Long enough for many a first look. */
const someLooks = (): Promise<void> => sleep(60);

describe('the revival of a connection that may be jammed', () => {
  it('tries it when nothing moves, again and again, and tells of each success', async () => {
    const connection = new Connection();
    connection.results.push('idle', 'asleep', 'revived', 'idle', 'revived');
    connection.revival.look();
    for (let n = 0; n < 5; n++) await once(connection, 'try');
    await sleep(0);
    expect(connection.revivals).toEqual([1, 2]);
    expect(connection.revival.times).toBe(2);
    connection.emit('close');
  });

  it.each<[string, (connection: Connection) => void]>([
    ['nothing says that it may be jammed', (connection) => (connection.doubtful = false)],
    ['nobody reads from it', (connection) => (connection.paused = true)],
    ['the daemon has taken all', (connection) => Object.assign(connection, { untaken: 0, writableLength: 0 })],
    ['the daemon is to be left alone', (connection) => (connection.quiet = true)],
    ['it is closed', (connection) => (connection.destroyed = true)],
  ])('leaves it alone while %s', async (_, arrange) => {
    const connection = new Connection();
    arrange(connection);
    connection.revival.look();
    await someLooks();
    expect(connection.tries).toBe(0);
  });

  it('leaves it alone while it moves, in either direction', async () => {
    for (const move of [(c: Connection) => (c.bytesRead += 1), (c: Connection) => (c.untaken += 1)]) {
      const connection = new Connection();
      // Between any two looks, however busy the machine.
      let looks = 0;
      connection.isPaused = () => {
        looks += 1;
        move(connection);
        return false;
      };
      connection.revival.look();
      await expect.poll(() => looks).toBeGreaterThan(5);
      connection.emit('close');
      expect(connection.tries).toBe(0);
    }
  });

  it('goes on when the quiet is over, and when it is read from again', async () => {
    const connection = new Connection();
    connection.quiet = true;
    connection.revival.look();
    connection.quiet = false;
    connection.loud.resolve();
    await once(connection, 'try');
    connection.paused = true;
    await someLooks();
    const { tries } = connection;
    await someLooks();
    expect(connection.tries).toBe(tries);
    connection.paused = false;
    connection.emit('resume');
    await once(connection, 'try');
    connection.emit('close');
  });

  it('knows a guest that does not read by tries that give nothing, until something moves', async () => {
    const connection = new Connection();
    connection.revival.look();
    for (let n = 0; n < 4; n++) {
      expect(connection.revival.isGuests).toBe(false);
      await once(connection, 'try');
      await sleep(0);
    }
    expect(connection.revival.isGuests).toBe(true);
    connection.bytesRead += 1;
    connection.revival.moved();
    expect(connection.revival.isGuests).toBe(false);
    connection.emit('close');
  });

  it('keeps why it cannot be tried, and tells when something was lost', async () => {
    const connection = new Connection();
    connection.results.push({ cannot: 'EPERM' }, 'broken');
    connection.revival.look();
    await once(connection, 'try');
    await sleep(0);
    expect(connection.revival.cannot).toBe('EPERM');
    await once(connection, 'try');
    await sleep(0);
    expect([connection.revival.cannot, connection.broken]).toEqual([undefined, 1]);
    connection.emit('close');
  });
});

describe('a reviver', () => {
  const daemon = identityOf(process.pid);
  if (daemon === undefined) throw new Error('this process runs');
  // SAFETY: only handed on.
  const socket = {} as Socket;
  const full = { takenBytes: 10, returnedBytes: 10, cameBytes: 5 };

  const reviver = (lifted: () => typeof full, isAtWork = true): Reviver =>
    new Reviver({ daemon, lift: { untaken: () => 1, lift: lifted }, isAtWork: () => Promise.resolve(isAtWork) });

  it('says what came of it', async () => {
    const results: readonly [RevivalResult, () => typeof full][] = [
      ['revived', () => full],
      ['idle', () => ({ ...full, cameBytes: 0 })],
      ['left', () => ({ takenBytes: 0, returnedBytes: 0, cameBytes: 0 })],
      ['broken', () => ({ ...full, returnedBytes: 9 })],
    ];
    for (const [result, lifted] of results) expect(await reviver(lifted).revive(socket, () => true)).toBe(result);
    const refused = reviver(() => {
      throw new Error('may not');
    });
    expect(await refused.revive(socket, () => true)).toEqual({ cannot: 'may not' });
  });

  it('touches nothing while the worker sleeps, or when it moves', async () => {
    let lifts = 0;
    const lifted = () => {
      lifts += 1;
      return full;
    };
    expect(await reviver(lifted, false).revive(socket, () => true)).toBe('asleep');
    expect(await reviver(lifted).revive(socket, () => false)).toBe('left');
    let asked = 0;
    expect(await reviver(lifted).revive(socket, () => asked++ === 0)).toBe('left');
    expect(lifts).toBe(0);
  });

  it('takes one at a time', async () => {
    let running = 0;
    const slow = new Reviver({
      daemon,
      lift: { untaken: () => 1, lift: () => full },
      isAtWork: async () => {
        running += 1;
        expect(running).toBe(1);
        await sleep(1);
        running -= 1;
        return true;
      },
    });
    const all = await Promise.all(Array.from({ length: 20 }, () => slow.revive(socket, () => true)));
    expect(all).toEqual(all.map(() => 'revived'));
  });
});

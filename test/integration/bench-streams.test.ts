/** The machinery of `npm run bench -- streams`: that the works do what they say. How fast is not asked here. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bulkBout } from '../../bench/streams/bulk.ts';
import { CONTENDERS, type Contender } from '../../bench/streams/contenders.ts';
import { type CutSizes, cutBout } from '../../bench/streams/cut.ts';
import type { Opened } from '../../bench/streams/order.ts';
import { arePeersInstalled } from '../../bench/streams/peers/installed.ts';
import { modelledLine, UNLIMITED } from '../../bench/streams/place.ts';

const SHORT = { settleMs: 50, windowMs: 200 };
/** What 100 Mbit/s carry at most. */
const MODELLED_MIB_PER_SECOND = 100e6 / 8 / 1024 ** 2;
const CUT: CutSizes = { warmUpBytes: 1, bytes: 24 * 1024 ** 2, cutAtBytes: 4 * 1024 ** 2 };
const TIMEOUT_MS = 60_000;
const SHAPE = ['tbf', 'rate', '100mbit', 'burst', '3200', 'limit', '65536'];

function contender(name: string): Contender {
  const found = CONTENDERS.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`no contender ${name}`);
  return found;
}

async function withScope<T>(body: (scope: AsyncDisposableStack, parent: string) => Promise<T>): Promise<T> {
  await using scope = new AsyncDisposableStack();
  const parent = await mkdtemp(join(tmpdir(), 'fls-'));
  scope.defer(() => rm(parent, { recursive: true, force: true }));
  return await body(scope, parent);
}

const hasNamespaces = canRun(
  'unshare',
  '--user',
  '--map-root-user',
  '--net',
  'tc',
  'qdisc',
  'add',
  'dev',
  'lo',
  'root',
  ...SHAPE,
);
if (!hasNamespaces) console.log('skipped: a line of 100 Mbit/s needs user namespaces and tbf');

/** Of a package; `http2` is Node's own. */
const RECONNECTING = 'dev-tunnels-ssh-reconnect';
const hasPeers = await arePeersInstalled();
if (!hasPeers) console.log(`skipped: ${RECONNECTING} needs the packages that 'npm run bench -- streams' installs`);
const CARRIERS = ['ours', 'baseline', 'http2', ...(hasPeers ? [RECONNECTING] : [])];

function canRun(command: string, ...args: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

describe('a line of a contender', { timeout: TIMEOUT_MS }, () => {
  it.each(CARRIERS)('of %s carries bulk, calls and keystrokes to the last byte', async (name) => {
    await withScope(async (scope, parent) => {
      const line = await contender(name).start(scope, UNLIMITED, parent);
      const figures = await bulkBout(line, { streams: 3, ...SHORT, pings: true });
      const hasStreams = name !== 'baseline';
      expect(Object.keys(figures)).toEqual([
        'MiB/s',
        's/GiB',
        ...(hasStreams ? ['Jain'] : []),
        'call p50',
        'call p99',
        'key p50',
        'key p99',
      ]);
      for (const figure of Object.values(figures)) expect(figure).toBeGreaterThan(0);
      // The same streams again: what is told of the second bout is its own.
      const again = await bulkBout(line, { streams: 3, ...SHORT, pings: false });
      expect(again['MiB/s']).toBeGreaterThan(0);
    });
  });

  it('opens streams one after another', async () => {
    await withScope(async (scope, parent) => {
      const line = await contender('ours').start(scope, UNLIMITED, parent);
      line.order({ do: 'open', times: 3 });
      const { opened } = await line.hear<Opened>('openings');
      expect(opened).toHaveLength(3);
    });
  });

  it('that cannot do a work says so', async () => {
    await withScope(async (scope, parent) => {
      const line = await contender('baseline').start(scope, UNLIMITED, parent);
      line.order({ do: 'fill', streams: 1, maxBytes: 1 });
      await expect(line.hear('filled streams')).rejects.toThrow('it has one flow and no streams');
    });
  });
});

describe('a cut in the middle of a transfer', { timeout: TIMEOUT_MS }, () => {
  it('is survived by ours with every byte', async () => {
    await withScope(async (scope, parent) => {
      const { ms } = await cutBout(contender('ours'), scope, UNLIMITED, parent, CUT);
      expect(ms).toBeGreaterThan(0);
    });
  });

  it.skipIf(!hasPeers)('is survived by a peer that goes on over another connection (needs its package)', async () => {
    await withScope(async (scope, parent) => {
      const { ms } = await cutBout(contender(RECONNECTING), scope, UNLIMITED, parent, CUT);
      expect(ms).toBeGreaterThan(0);
    });
  });

  it('is the failure of who does not resume', async () => {
    await withScope(async (scope, parent) => {
      const bout = cutBout(contender('http2'), scope, UNLIMITED, parent, CUT);
      // Which of them notices first is chance.
      await expect(bout).rejects.toThrow(/^its (operator|hub|agent): /);
    });
  });
});

describe('the modelled line', { timeout: TIMEOUT_MS }, () => {
  it.skipIf(!hasNamespaces)('carries no more than 100 Mbit/s (needs user namespaces and tbf)', async () => {
    await withScope(async (scope, parent) => {
      const place = await modelledLine(scope);
      const line = await contender('baseline').start(scope, place, parent);
      const figures = await bulkBout(line, { streams: 1, settleMs: 500, windowMs: 1_000, pings: false });
      // The sink has what the line let through in the window, and what the agent held of it before.
      expect(figures['MiB/s']).toBeLessThan(MODELLED_MIB_PER_SECOND * 1.5);
    });
  });
});

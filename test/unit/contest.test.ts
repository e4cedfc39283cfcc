import { describe, expect, it } from 'vitest';
import { type Contest, type Figures, hold } from '../../bench/contest.ts';
import type { Row } from '../../bench/measure.ts';
import { behindInBoth } from '../../bench/streams/verdict.ts';
import { renderTable } from '../../bench/table.ts';

const NEVER = new AbortController().signal;

type Bout = () => Promise<Figures>;

function contest(bouts: Readonly<Record<string, Bout>>, of: Partial<Contest> = {}): Contest {
  return {
    name: 'c',
    figures: [{ name: 'speed', key: 'speed', unit: 'MiB/s' }],
    prepare: async () => ({ bouts, [Symbol.asyncDispose]: async () => {} }),
    ...of,
  };
}

function giving(...figures: number[]): Bout {
  const left = [...figures];
  return async () => ({ speed: left.shift() ?? Number.NaN });
}

async function firstRow(of: Contest, runs = 1): Promise<Row> {
  const [row] = await hold(of, { runs, signal: NEVER });
  if (row === undefined) throw new Error('no row');
  return row;
}

function row(of: Partial<Row>): Row {
  return { name: 'a', unit: 'ms', ours: 1, baseline: 1, ratio: 1, limit: Number.NaN, holds: true, ...of };
}

describe('a contest', () => {
  it('compares the medians of all, and judges none but ours', async () => {
    const of = contest({ ours: giving(9, 1, 5), baseline: giving(10, 10, 10), http2: giving(7, 8, 9) });
    expect(await firstRow(of, 3)).toMatchObject({
      ours: 5,
      baseline: 10,
      ratio: 0.5,
      holds: true,
      peers: { http2: 8 },
      fails: {},
    });
  });

  it('is held among those that are named, or among all', async () => {
    const started: string[][] = [];
    const of = contest(
      {},
      {
        prepare: async (takesPart) => {
          started.push(['ours', 'baseline', 'http2'].filter(takesPart));
          return { bouts: {}, [Symbol.asyncDispose]: async () => {} };
        },
      },
    );
    await hold(of, { runs: 1, signal: NEVER });
    await hold(of, { runs: 1, among: ['ours', 'http2'], signal: NEVER });
    expect(started).toEqual([
      ['ours', 'baseline', 'http2'],
      ['ours', 'http2'],
    ]);
  });

  it('lets each go first by turns', async () => {
    const asked: string[] = [];
    const asking =
      (name: string): Bout =>
      async () => {
        asked.push(name);
        return { speed: 1 };
      };
    await hold(contest({ ours: asking('ours'), baseline: asking('baseline'), http2: asking('http2') }), {
      runs: 2,
      signal: NEVER,
    });
    expect(asked).toEqual(['ours', 'baseline', 'http2', 'http2', 'baseline', 'ours']);
  });

  it.each([
    ['ratio', 'at-least', 0.5, true],
    ['ratio', 'at-least', 0.51, false],
    ['absolute', 'at-least', 5, true],
    ['absolute', 'at-most', 4.9, false],
  ] as const)('holds a promised %s %s %d: %s', async (kind, direction, limit, holds) => {
    const figures = [{ name: 'speed', key: 'speed', unit: 'MiB/s', promise: { kind, direction, limit } }];
    const of = contest({ ours: giving(5), baseline: giving(10) }, { figures });
    expect(await firstRow(of)).toMatchObject({ limit, holds });
  });

  it('makes a row of each figure, without one for whom a figure does not apply to', async () => {
    const figures = [
      { name: 'speed', key: 'speed', unit: 'MiB/s' },
      { name: 'fairness', key: 'Jain', unit: 'Jain' },
    ];
    const ours: Bout = async () => ({ speed: 5, Jain: 0.9 });
    const rows = await hold(contest({ ours, baseline: giving(10) }, { figures }), { runs: 1, signal: NEVER });
    expect(rows).toMatchObject([
      { name: 'speed', ours: 5, baseline: 10, holds: true },
      { name: 'fairness', ours: 0.9, baseline: Number.NaN, holds: true },
    ]);
  });

  it('shows who fails and how, asks it no more, and goes on with the others', async () => {
    let asked = 0;
    const yamux: Bout = async () => {
      asked++;
      throw new Error('bytes were lost');
    };
    const of = contest({ ours: giving(5, 5), baseline: giving(10, 10), yamux });
    expect(await firstRow(of, 2)).toMatchObject({ ours: 5, peers: { yamux: Number.NaN }, fails: { yamux: 'bytes were lost' } });
    expect(asked).toBe(1);
  });

  it('does not hold when ours fails, promised or not', async () => {
    const ours: Bout = () => Promise.reject(new Error('no'));
    expect(await firstRow(contest({ ours, baseline: giving(1) }))).toMatchObject({ holds: false, fails: { ours: 'no' } });
  });

  it('that cannot be prepared has rows that say why', async () => {
    const of = contest({}, { prepare: () => Promise.reject(new Error('no veth here')) });
    expect(await firstRow(of)).toMatchObject({ holds: false, fails: { ours: 'not measured: no veth here' } });
  });

  it('is given up in the middle of a bout when it is interrupted, and taken down', async () => {
    const interrupted = new AbortController();
    let disposed = 0;
    const ours: Bout = () => {
      interrupted.abort(new Error('interrupted'));
      return new Promise(() => {});
    };
    const of = contest({}, { prepare: async () => ({ bouts: { ours }, [Symbol.asyncDispose]: async () => void disposed++ }) });
    await expect(hold(of, { runs: 1, signal: interrupted.signal })).rejects.toThrow('interrupted');
    expect(disposed).toBe(1);
  });
});

describe('the table', () => {
  it('has a column for each peer, and says once below how one failed', () => {
    const fails = { yamux: 'bytes were lost' };
    const rows = [row({ peers: { http2: 2, yamux: Number.NaN }, fails }), row({ name: 'b', peers: {}, fails })];
    expect(renderTable(rows)).toBe(
      [
        'measure  unit  ours  baseline  ratio  limit  holds  http2  yamux',
        'a        ms    1     1         1      -      yes    2      fails',
        'b        ms    1     1         1      -      yes    -      fails',
        'fails  yamux: bytes were lost  (a; b)',
      ].join('\n'),
    );
  });
});

describe.each(['beside 1 bulk, unlimited', 'beside 64 bulk, 100 Mbit/s'])('the verdict on peers, %s', (where) => {
  const throughput = (peers: Record<string, number>): Row => row({ name: `throughput ${where}`, ours: 100, peers });
  const latency = (peers: Record<string, number>): Row => row({ name: `call p99 ${where}`, ours: 10, peers });

  it.each([
    ['ahead in neither', 90, 11, 0],
    ['ahead in throughput only', 110, 11, 0],
    ['ahead in latency only', 90, 9, 0],
    ['ahead in both', 110, 9, 1],
    ['as good in both', 100, 10, 1],
    ['ahead in one and failing the other', 110, Number.NaN, 0],
  ])('counts a peer that is %s', (_what, speed, wait, ahead) => {
    expect(behindInBoth([throughput({ x: speed }), latency({ x: wait })])).toMatchObject([
      { ours: ahead, holds: ahead === 0, peers: { x: ahead } },
    ]);
  });

  it('is none when a half of it was not measured', () => {
    expect(behindInBoth([throughput({ x: 1 })])).toEqual([]);
    expect(behindInBoth([{ ...throughput({ x: 1 }), name: 'throughput, 64 streams' }, latency({ x: 1 })])).toEqual([]);
  });

  it('does not hold without our own figures', () => {
    expect(behindInBoth([throughput({}), { ...latency({}), ours: Number.NaN }])).toMatchObject([{ holds: false }]);
  });
});

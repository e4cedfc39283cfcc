import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type Measurement, measure, median, type Row } from '../../bench/measure.ts';
import { renderTable } from '../../bench/table.ts';

const MAIN = fileURLToPath(new URL('../../bench/main.ts', import.meta.url));

/** Sides whose runs give the figures listed, in turn, and a record of what was asked of them. */
function scripted(ours: readonly number[], baseline: readonly number[], asked: string[] = []): Measurement['prepare'] {
  const give = (name: string, figures: readonly number[]) => {
    const left = [...figures];
    return async () => {
      asked.push(name);
      return left.shift() ?? Number.NaN;
    };
  };
  return async () => ({
    ours: give('ours', ours),
    baseline: give('baseline', baseline),
    [Symbol.asyncDispose]: async () => void asked.push('disposed'),
  });
}

function measurement(of: Partial<Measurement>): Measurement {
  return { name: 'x', unit: 'ms', direction: 'at-most', kind: 'ratio', limit: 1.5, prepare: scripted([15], [10]), ...of };
}

async function runBench(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'exit');
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), exited]);
  return { code: Number(code), stdout, stderr };
}

describe('a measurement', () => {
  it.each([
    [[3], 3],
    [[9, 1, 5], 5],
    [[4, 1, 3, 2], 2.5],
  ])('of %j has the median %d', (values, expected) => {
    expect(median(values)).toBe(expected);
  });

  it('lets each side go first by turns, and takes both down at the end', async () => {
    const asked: string[] = [];
    await measure(measurement({ prepare: scripted([1, 1, 1], [1, 1, 1], asked) }), { runs: 3 });
    expect(asked).toEqual(['ours', 'baseline', 'baseline', 'ours', 'ours', 'baseline', 'disposed']);
  });

  it('that is short and varies runs more often than it is asked to', async () => {
    const prepare = scripted([9, 1, 5, 9, 5, 1], [2, 2, 2, 2, 2, 2]);
    expect(await measure(measurement({ prepare, runsEach: 3 }), { runs: 2 })).toMatchObject({ ours: 5, baseline: 2 });
  });

  it.each([
    ['a ratio at its limit', { limit: 1.5 }, true],
    ['a ratio above its limit', { limit: 1.49 }, false],
    ['a ratio that must be at least so much and is', { direction: 'at-least', limit: 1.5 }, true],
    ['a ratio that must be at least so much and is not', { direction: 'at-least', limit: 1.51 }, false],
    ['an absolute figure within its limit, whatever the ratio', { kind: 'absolute', limit: 15 }, true],
    ['an absolute figure beyond its limit', { kind: 'absolute', limit: 14 }, false],
  ] as const)('judges %s', async (_what, of, holds) => {
    expect(await measure(measurement(of), { runs: 1 })).toMatchObject({ ours: 15, baseline: 10, ratio: 1.5, holds });
  });

  it('does not hold when a figure is missing', async () => {
    expect(await measure(measurement({ prepare: scripted([], [1]) }), { runs: 1 })).toMatchObject({ holds: false });
  });

  it('takes both sides down when a run fails', async () => {
    const asked: string[] = [];
    const prepare = async () => ({
      ...(await scripted([], [], asked)()),
      ours: () => Promise.reject(new Error('no')),
    });
    await expect(measure(measurement({ prepare }), { runs: 1 })).rejects.toThrow('no');
    expect(asked).toEqual(['disposed']);
  });

  it('is given up in the middle of a run when it is interrupted', async () => {
    const asked: string[] = [];
    const interrupted = new AbortController();
    const prepare = async () => ({
      ...(await scripted([], [], asked)()),
      ours: () => {
        interrupted.abort(new Error('interrupted'));
        return new Promise<number>(() => {});
      },
    });
    const run = measure(measurement({ prepare }), { runs: 1, signal: interrupted.signal });
    await expect(run).rejects.toThrow('interrupted');
    expect(asked).toEqual(['disposed']);
  });

  it('is shown as a table that names what does not hold', () => {
    const row: Row = { name: 'a', unit: 'ms', ours: 3, baseline: 1, ratio: 3, limit: 2, holds: false };
    expect(renderTable([row])).toBe(
      'measure  unit  ours  baseline  ratio  limit  holds\na        ms    3     1         3      2      NO',
    );
  });
});

describe('npm run bench', () => {
  it.each([
    ['no group', []],
    ['an unknown group', ['nothing']],
    ['a name of Object', ['constructor']],
    ['no runs', ['line', '--runs', '0']],
    ['an unknown flag', ['line', '--fast']],
    ['two groups', ['line', 'line']],
  ])('with %s says how it is used and ends with 2', async (_what, args) => {
    const { code, stdout, stderr } = await runBench(...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('usage: npm run bench -- line|streams');
  });

  it('prints one row as JSON, with the exit code that it deserves', async () => {
    const { code, stdout, stderr } = await runBench('line', '--json', '--runs', '1', '--only', 'agent start');
    expect(stdout, stderr).not.toBe('');
    const rows = JSON.parse(stdout) as Row[];
    expect(rows).toEqual([
      {
        name: 'agent start to connected',
        unit: 'ms',
        ours: expect.any(Number),
        baseline: expect.any(Number),
        ratio: expect.any(Number),
        limit: 500,
        holds: expect.any(Boolean),
      },
    ]);
    expect(code).toBe(rows[0]?.holds === true ? 0 : 1);
  });
});

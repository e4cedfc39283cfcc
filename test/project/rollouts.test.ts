/** Pages about rollouts and fleets say the truth: each published failure has a test of that title, and documents that are shown can be given. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { SimScript } from '../../agent/sim/script.ts';
import { FleetDocument } from '../../shared/protocol/methods-desired.ts';
import { RolloutSpec } from '../../shared/protocol/rollout-spec.ts';
import { listed, ROOT } from '../support/sources.ts';

/** What each YAML document of the pages must be, by a member that only it has. */
const KINDS = [
  [/^selector:/m, RolloutSpec],
  [/^faults:/m, SimScript],
  [/^vms:/m, FleetDocument],
] as const;

const page = readFileSync(join(ROOT, 'docs/reference/rollouts.md'), 'utf8');
const rows = page
  .slice(page.indexOf('| what went wrong |'))
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| what went wrong'))
  .map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );

describe('the failures of other engines on the page of rollouts', () => {
  it('are twelve at least, and no cell is empty', () => {
    expect(rows.length).toBeGreaterThanOrEqual(12);
    expect(rows.filter((cells) => cells.length !== 4 || cells.includes(''))).toEqual([]);
  });

  it('name a test that exists, by file and title', () => {
    const wrong = rows.flatMap(([, , , cell = '']) => {
      const [, name = '', title = ''] = /^`([\w./-]+)`: (.+)$/.exec(cell) ?? [];
      const file = join(ROOT, 'test', `${name}.test.ts`);
      if (!existsSync(file)) return [`no test: ${cell}`];
      return readFileSync(file, 'utf8').includes(`'${title}'`) ? [] : [`test/${name}.test.ts has no test "${title}"`];
    });
    expect(listed(wrong)).toBe('');
  });
});

describe('the documents that the pages show', () => {
  it.each([
    ['docs/reference/rollouts.md', 1],
    ['docs/howto/fleet.md', 1],
    ['docs/howto/update-agents.md', 1],
    ['docs/howto/simulate-a-fleet.md', 3],
  ])('can be given as they are: %s', (name, least) => {
    const texts = [...readFileSync(join(ROOT, name), 'utf8').matchAll(/^```yaml\n([^]*?)^```/gm)].map(([, text = '']) => text);
    expect(texts.length).toBeGreaterThanOrEqual(least);
    for (const text of texts) {
      const [, schema] = KINDS.find(([member]) => member.test(text)) ?? [];
      if (schema === undefined) throw new Error(`what is this? ${text}`);
      expect(v.safeParse(schema, parse(text)).issues?.map(({ message }) => message) ?? [], text).toEqual([]);
    }
  });
});

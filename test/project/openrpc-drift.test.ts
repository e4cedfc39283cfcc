import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { referencePages } from '../../scripts/reference/pages.ts';

const ROOT = join(import.meta.dirname, '../..');

describe('the generated reference', () => {
  it.each([...referencePages().keys()])('%s is what the contract gives (else: node scripts/generate-docs.ts)', async (path) => {
    expect(await readFile(join(ROOT, path), 'utf8')).toBe(referencePages().get(path));
  });
});

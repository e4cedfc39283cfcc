/**
 * Writes the generated pages of docs/reference. With `--check` it writes nothing and ends with 1 when a committed page differs from
 * what the contract gives.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { referencePages } from './reference/pages.ts';

const ROOT = join(import.meta.dirname, '..');
const isCheck = process.argv.includes('--check');

for (const [path, text] of referencePages()) {
  const file = join(ROOT, path);
  const committed = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (committed === text) continue;
  if (isCheck) {
    console.error(`${path} is not what the contract gives: run "node scripts/generate-docs.ts" and commit it`);
    process.exitCode = 1;
  } else {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
    console.error(`wrote ${path}`);
  }
}

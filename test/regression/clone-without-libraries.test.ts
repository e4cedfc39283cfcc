/**
 * Symptom: `npx fairlead vm ls` in a fresh clone on Node 24 showed a stack with ERR_MODULE_NOT_FOUND.
 * Cause: the launcher looked for a Node that is new enough, and not for the libraries, which the set-up brings.
 */
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

test('a clone whose libraries are not there says which command brings them', async ({ onTestFinished }) => {
  const clone = await mkdtemp(join(tmpdir(), 'fl-clone-'));
  onTestFinished(() => rm(clone, { recursive: true, force: true }));
  await mkdir(join(clone, 'bin'));
  await writeFile(join(clone, 'package.json'), '{"type":"module"}');
  await copyFile(fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url)), join(clone, 'bin/fairlead.js'));
  await writeFile(join(clone, 'bin/fairlead.ts'), "await import('commander');\n");

  const { code, stderr } = await new Promise<{ code: unknown; stderr: string }>((resolve) => {
    const done = (error: Error | null, _: string, text: string) =>
      resolve({ code: error && 'code' in error && error.code, stderr: text });
    execFile(process.execPath, [join(clone, 'bin/fairlead.js'), 'vm', 'ls'], done);
  });
  expect(stderr).toBe('fairlead: the libraries of this clone are not installed; run `npm run setup` first\n');
  expect(code).toBe(1);
});

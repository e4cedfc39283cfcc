/** On a fresh clone the set-up puts a newer `node` on PATH while the shell that runs a script of package.json already knows the old one. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const PACKAGE_JSON = fileURLToPath(new URL('../../package.json', import.meta.url));
const { scripts } = JSON.parse(await readFile(PACKAGE_JSON, 'utf8')) as { scripts: Record<string, string> };

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fairlead-scripts-'));
});

afterAll(() => rm(directory, { recursive: true, force: true }));

describe('scripts of package.json that start with the set-up', () => {
  for (const [name, script] of Object.entries(scripts).filter(([, text]) => text.includes('setup.mjs') && text.includes('&&'))) {
    it(`${name} goes on with the Node that the set-up has just installed`, async () => {
      const [machine, pinned] = [join(directory, name, 'machine'), join(directory, name, 'pinned')];
      for (const folder of [machine, pinned]) await mkdir(folder, { recursive: true });
      const node = join(pinned, 'node');
      const installer = `#!/bin/sh\nprintf '#!/bin/sh\\necho "pinned node: $*"\\n' > '${node}'\nchmod +x '${node}'\necho "machine node: $*"\n`;
      await writeFile(join(machine, 'node'), installer, { mode: 0o755 });

      const env = { PATH: `${pinned}:${machine}:/usr/bin:/bin` };
      const { stdout } = await run('/bin/sh', ['-c', script], { env });
      const [first, second] = stdout.trim().split('\n');
      expect(first).toMatch(/^machine node: scripts\/setup\.mjs/);
      expect(second).toMatch(/^pinned node: /);
    });
  }
});

/** Every command of the README's "Ten lines of use", in order, as a reader would paste them: each must succeed and say what it is for. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { whyNoGuest } from '../support/up.ts';

const run = promisify(execFile);
const projectDir = fileURLToPath(new URL('../..', import.meta.url));
const readme = await readFile(join(projectDir, 'README.md'), 'utf8');
/** The ports that a reader gets by default. */
const PORTS = [7080, 7081];

/** What each line shows, in the README's order. A line that is added there needs one here. */
const SHOWS: readonly RegExp[] = [
  /kernel/,
  /fairlead is up/,
  /running/,
  /^VM +HOST +STATE.*\nweb +local +running/,
  /vm\.created[\s\S]*vm\.started/,
  /^Linux /,
  /paused[\s\S]*running/,
  /"hosts":/,
  /ended by +guest/,
  /web is deleted[\s\S]*have ended/,
];

const reason = whyNoGuest() ?? (await portTaken());
if (reason !== undefined) console.log(`skipped: ${reason}`);

describe.skipIf(reason !== undefined)('the README', () => {
  let home: string;
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'fl-readme-'));
  });
  afterAll(async () => {
    await shell('npx fairlead vm delete web --force; npx fairlead down').catch(() => {});
    await rm(home, { recursive: true, force: true });
  });

  const shell = async (line: string): Promise<string> => {
    const env = {
      ...process.env,
      HOME: home,
      XDG_STATE_HOME: join(home, 's'),
      XDG_CONFIG_HOME: join(home, 'c'),
      FAIRLEAD_CONTEXT: undefined,
    };
    const { stdout, stderr } = await run('bash', ['-o', 'pipefail', '-c', line], { cwd: projectDir, env });
    return stdout + stderr;
  };

  const lines = linesOfUse();
  it('has ten lines of use', () => expect(lines).toHaveLength(SHOWS.length));

  it.each(lines.map((line, index) => ({ line, shows: SHOWS[index] ?? /./ })))('$line', async ({ line, shows }) =>
    expect(await shell(line)).toMatch(shows),
  );
});

describe('the two commands', () => {
  it('are scripts of package.json, and the demo takes the flags that the README names', async () => {
    const { scripts } = JSON.parse(await readFile(join(projectDir, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    for (const name of ['demo', 'test', 'bench', 'check']) expect(Object.keys(scripts)).toContain(name);
    const demo = await readFile(join(projectDir, 'scripts/demo.ts'), 'utf8');
    for (const flag of ['keep', 'json', 'machine']) {
      expect(readme).toContain(`--${flag}`);
      expect(demo).toContain(`${flag}: {`);
    }
  });
});

function linesOfUse(): string[] {
  const block = /## Ten lines of use\n+```sh\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
  return block
    .split('\n')
    .map((line) => line.replace(/\s+#.*$/, '').trim())
    .filter((line) => line !== '');
}

async function portTaken(): Promise<string | undefined> {
  for (const port of PORTS) {
    const socket = connect(port, '127.0.0.1');
    const taken = await new Promise<boolean>((resolve) =>
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false)),
    );
    socket.destroy();
    if (taken) return `port ${port} of 127.0.0.1, which the README's commands take, is in use`;
  }
  return undefined;
}

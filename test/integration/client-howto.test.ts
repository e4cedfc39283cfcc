/** The example of docs/howto/use-the-client.md, as it stands there. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { startFakeFleet } from '../support/fake-fleet.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

it('the example of the client library runs as it is written', async () => {
  const page = await readFile(join(ROOT, 'docs/howto/use-the-client.md'), 'utf8');
  const example = /```ts\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
  expect(example).toContain("from 'fairlead/client'");
  const entry = pathToFileURL(join(ROOT, 'client/index.ts')).href;
  const directory = await mkdtemp(join(tmpdir(), 'fl-example-'));
  try {
    const program = join(directory, 'example.mts');
    await writeFile(program, example.replace("'fairlead/client'", JSON.stringify(entry)));
    await using fleet = await startFakeFleet();
    const env = { ...process.env, FAIRLEAD_HUB: fleet.url, FAIRLEAD_TOKEN: fleet.token };
    const child = spawn(process.execPath, [program], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const exited = once(child, 'exit');
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
    await exited;
    expect({ stdout, stderr }).toEqual({ stdout: 'web is running\nthe guest said: hello, guest\n', stderr: '' });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

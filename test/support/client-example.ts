/** The example of docs/howto/use-the-client.md, as it stands there, run against a hub with a VM `web`. */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** What it prints. */
export async function runClientExample(hub: string, token: string): Promise<{ stdout: string; stderr: string }> {
  const page = await readFile(join(ROOT, 'docs/howto/use-the-client.md'), 'utf8');
  const example = /```ts\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
  if (!example.includes("from 'fairlead/client'")) throw new Error('the page has no example of the client library');
  const entry = pathToFileURL(join(ROOT, 'client/index.ts')).href;
  const directory = await mkdtemp(join(tmpdir(), 'fl-example-'));
  try {
    const program = join(directory, 'example.mts');
    await writeFile(program, example.replace("'fairlead/client'", JSON.stringify(entry)));
    const env = { ...process.env, FAIRLEAD_HUB: hub, FAIRLEAD_TOKEN: token };
    const child = spawn(process.execPath, [program], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
    return { stdout, stderr };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

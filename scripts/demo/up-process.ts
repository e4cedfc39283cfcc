/** The demo's hub and agent: `fairlead up` in the background on a directory of its own, with whatever ports are free. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BackgroundUp, startInBackground } from '../../bin/up-background.ts';
import type { HubContext } from '../../cli/context.ts';

export interface RunningUp extends BackgroundUp {
  readonly context: HubContext;
}

const ARGS = ['--listen', '127.0.0.1:0', '--agent-http', '127.0.0.1:0', '--host-name', 'demo-host'];

export async function startUp(directory: string): Promise<RunningUp> {
  const contextFile = join(directory, 'context.json');
  const up = await startInBackground(directory, ARGS, { ...process.env, FAIRLEAD_CONTEXT: contextFile });
  // SAFETY: `up` wrote it a moment ago.
  const context = JSON.parse(await readFile(contextFile, 'utf8')) as HubContext;
  return { ...up, context };
}

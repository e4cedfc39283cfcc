/** A document that an operator wrote, of a file or, for `-`, of standard input. */
import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { parse as parseYaml } from 'yaml';
import { FairleadError } from '../shared/errors.ts';
import type { App } from './app.ts';
import { pipedInput } from './piped-input.ts';

/** What YAML or JSON says; whoever takes it checks it. @throws FairleadError NOT_FOUND, INVALID_PARAMS */
export async function readDocument(path: string, app: App): Promise<unknown> {
  const written = path === '-' ? await text(pipedInput(app)) : await fileText(path);
  try {
    return parseYaml(written);
  } catch (cause) {
    throw new FairleadError('INVALID_PARAMS', `${path} is neither YAML nor JSON: ${String(cause)}`, { cause });
  }
}

async function fileText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new FairleadError('NOT_FOUND', `could not read ${path}: ${String(cause)}`, { cause });
  }
}

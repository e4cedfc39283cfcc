/** The add-on under the sanitizers, to run in a rig: the build and its libraries as files there, and what a program needs to load them. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { buildWithAsan } from '../asan.ts';

const FOLDER = 'asan';

export interface AsanInRig {
  /** For `RigOptions.files`. */
  readonly files: Readonly<Record<string, Uint8Array>>;
  /** Stands before a command: the environment as outside, with the paths of inside. */
  readonly prefix: string;
}

export function asanInRig(): AsanInRig | { readonly reason: string } {
  const asan = buildWithAsan();
  if ('reason' in asan) return asan;
  const paths = [asan.path, ...asan.libraries];
  const inside = (path: string): string => `/fairlead/${FOLDER}/${basename(path)}`;
  const environment = { LD_LIBRARY_PATH: `/fairlead/${FOLDER}`, ...asan.env };
  const moved = Object.entries(environment).map(([name, value]) => `${name}=${paths.includes(value) ? inside(value) : value}`);
  return {
    files: Object.fromEntries(paths.map((path) => [`${FOLDER}/${basename(path)}`, readFileSync(path)])),
    prefix: `env ${moved.join(' ')} `,
  };
}

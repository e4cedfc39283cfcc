/** What `fairlead cp` is given: a file of a guest as `VM:/path`, one of this machine, or `-` for standard input or output. */
import { FairleadError } from '../shared/errors.ts';

export type Place =
  | { readonly kind: 'guest'; readonly vm: string; readonly path: string }
  | { readonly kind: 'local'; readonly path: string }
  | { readonly kind: 'standard' };

const GUEST = /^([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?):(.*)$/s;

/** A local file whose name looks like a guest's is written with `./` before it. @throws FairleadError INVALID_PARAMS */
export function parsePlace(text: string): Place {
  if (text === '-') return { kind: 'standard' };
  const [, vm, path = ''] = GUEST.exec(text) ?? [];
  if (vm === undefined) return { kind: 'local', path: text };
  if (path.startsWith('/')) return { kind: 'guest', vm, path };
  const todo = `write ${vm}:/PATH, or ./${text} for a file of this machine`;
  throw new FairleadError('INVALID_PARAMS', `${JSON.stringify(text)} names no absolute path in VM ${vm}: ${todo}`);
}

/** Where the file goes: a path that ends with a slash is a directory, in which the file keeps its name. @throws FairleadError INVALID_PARAMS */
export function withName(target: string, source: Place): string {
  if (!target.endsWith('/')) return target;
  const name = source.kind === 'standard' ? '' : (source.path.split('/').at(-1) ?? '');
  if (name !== '' && name !== '.' && name !== '..') return target + name;
  throw new FairleadError('INVALID_PARAMS', `${target} is a directory, and what is copied has no name: write the whole path`);
}

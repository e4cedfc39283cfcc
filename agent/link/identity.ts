/**
 * Who this host is at its hub: the key it signs with and what the hub said when it enrolled. In the state directory: `host-key.pem`,
 * made once, and `identity.json`, written when an enrolment succeeded.
 *
 * The hub's id is pinned by it: the agent signs for that hub and no other. The digest of the token tells a new token, which makes the
 * host enrol again, from the one that is used up.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';
import { type HostKey, loadOrCreateHostKey } from '../../shared/node/host-key.ts';
import { Name } from '../../shared/protocol/common.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { writeFileAtomic } from '../vm/atomic-file.ts';

const IdentityFile = v.object({
  version: v.literal(1),
  host: Name,
  hubId: v.pipe(v.string(), v.minLength(1), v.maxLength(64)),
  /** SHA-256 of the token, base64url. */
  tokenDigest: v.string(),
});
export type Identity = Omit<v.InferOutput<typeof IdentityFile>, 'version'>;

export class IdentityStore {
  readonly #directory: string;
  /** Read once: a hub that is away for long is dialled many times. */
  #key: HostKey | undefined;

  constructor(stateDir: string) {
    this.#directory = stateDir;
  }

  async key(): Promise<HostKey> {
    if (this.#key !== undefined) return this.#key;
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    this.#key = await loadOrCreateHostKey(join(this.#directory, 'host-key.pem'));
    return this.#key;
  }

  /** Undefined before the first enrolment. */
  async load(): Promise<Identity | undefined> {
    const path = join(this.#directory, 'identity.json');
    try {
      const { version: _version, ...identity } = parseWith(
        IdentityFile,
        JSON.parse(await readFile(path, 'utf8')),
        path,
        'INTERNAL',
      );
      return identity;
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      if (error instanceof FairleadError) throw error;
      throw new FairleadError('INTERNAL', `could not read ${path}: ${String(error)}: remove it to enrol again`, { cause: error });
    }
  }

  async save(identity: Identity): Promise<void> {
    await writeFileAtomic(
      join(this.#directory, 'identity.json'),
      `${JSON.stringify({ version: 1, ...identity }, undefined, 2)}\n`,
    );
  }
}

/** The way in to a new hub: an administrator's token, made once, in a file that only the hub's user can read. It is never logged. */
import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { META } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { TokenService } from './tokens.ts';

export const ADMIN_TOKEN_FILE = 'admin.token';
const META_KEY = 'adminTokenId';

/**
 * The path of the file when the token was made just now, else undefined. A crash on the way leaves a token whose secret nobody has; the
 * next start makes another.
 */
export async function ensureFirstAdmin(store: Store, tokens: TokenService, dataDir: string): Promise<string | undefined> {
  if ((await store.collection(META).get(META_KEY)) !== undefined) return undefined;
  const { token, record } = await tokens.create({ kind: 'operator', role: 'admin', description: 'first administrator' });
  const path = join(dataDir, ADMIN_TOKEN_FILE);
  await writePrivateFile(path, `${token}\n`);
  await store.collection(META).create(META_KEY, record.id);
  return path;
}

async function writePrivateFile(path: string, content: string): Promise<void> {
  const temporary = `${path}.new`;
  {
    await using file = await open(temporary, 'w', 0o600);
    await file.chmod(0o600);
    await file.writeFile(content);
    await file.sync();
  }
  await rename(temporary, path);
}

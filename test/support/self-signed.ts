/** A certificate for 127.0.0.1, localhost and 10.0.2.2 (this machine as the rig sees it) that signs itself, made by the openssl program. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

export interface SelfSigned extends AsyncDisposable {
  readonly certPath: string;
  readonly keyPath: string;
  readonly cert: string;
}

export async function makeSelfSigned(): Promise<SelfSigned> {
  const directory = await mkdtemp(join(tmpdir(), 'self-signed-'));
  const [certPath, keyPath] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyPath];
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1,IP:10.0.2.2,DNS:localhost'];
  await promisify(execFile)('openssl', ['req', '-x509', ...key, '-out', certPath, '-days', '2', ...names]);
  return {
    certPath,
    keyPath,
    cert: await readFile(certPath, 'utf8'),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true }),
  };
}

import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { generateHostKey, loadHostKey, loadOrCreateHostKey, sha256, verifySignature } from '../../shared/node/host-key.ts';
import {
  type ConnectProof,
  connectProofBytes,
  enrolProofBytes,
  formatAuthorization,
  hubEndpoints,
  parseAuthorization,
} from '../../shared/protocol/handshake.ts';
import { SUBPROTOCOL } from '../../shared/protocol/version.ts';

const unsigned: Omit<ConnectProof, 'signature'> = {
  host: 'edge-1',
  nonce: 'n'.repeat(43),
  expiresAt: '2026-01-02T03:04:05.678Z',
  agentNonce: 'a'.repeat(43),
  protocol: SUBPROTOCOL,
  binding: 'none',
};
const context = { hubId: 'hub-1', bindingBytes: new Uint8Array() };

describe('the proof of an agent', () => {
  it('verifies with the key that signed it and with no other', () => {
    const key = generateHostKey();
    const bytes = connectProofBytes(unsigned, context);
    const signature = key.sign(bytes);
    expect(verifySignature(key.publicKey, bytes, signature)).toBe(true);
    expect(verifySignature(generateHostKey().publicKey, bytes, signature)).toBe(false);
    expect(verifySignature('no key', bytes, signature)).toBe(false);
    expect(verifySignature(key.publicKey, bytes, 'no signature')).toBe(false);
  });

  it('changes with every field that it binds', () => {
    const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
    const all = [
      connectProofBytes(unsigned, context),
      connectProofBytes({ ...unsigned, host: 'edge-2' }, context),
      connectProofBytes({ ...unsigned, nonce: 'm'.repeat(43) }, context),
      connectProofBytes({ ...unsigned, agentNonce: 'b'.repeat(43) }, context),
      connectProofBytes({ ...unsigned, expiresAt: '2026-01-02T03:04:06.678Z' }, context),
      connectProofBytes({ ...unsigned, binding: 'tls-exporter' }, context),
      connectProofBytes(unsigned, { ...context, hubId: 'hub-2' }),
      connectProofBytes(unsigned, { ...context, bindingBytes: new Uint8Array(32) }),
    ].map(hex);
    expect(new Set(all).size).toBe(all.length);
  });

  it('cannot be shifted from one field into the next', () => {
    const tokenDigest = sha256('secret');
    const one = enrolProofBytes({ publicKey: 'ab', tokenDigest, host: 'c' });
    const other = enrolProofBytes({ publicKey: 'a', tokenDigest, host: 'bc' });
    expect(Buffer.from(one).equals(other)).toBe(false);
  });

  it('has the bytes that another implementation would make', () => {
    const bytes = enrolProofBytes({ publicKey: 'AA', tokenDigest: new Uint8Array([1, 2]), host: 'h' });
    expect(Buffer.from(bytes).toString('hex')).toBe(
      `00000011${Buffer.from('fairlead-enrol-v1').toString('hex')}0000000241410000000201020000000168`,
    );
  });

  it('survives the way through the authorization header', () => {
    const proof: ConnectProof = { ...unsigned, signature: generateHostKey().sign(new Uint8Array()) };
    expect(parseAuthorization(formatAuthorization(proof))).toEqual(proof);
  });

  it.each([
    undefined,
    '',
    'Bearer abc',
    'Fairlead-Ed25519',
    'Fairlead-Ed25519 !!!',
    'Fairlead-Ed25519 e30',
    `Fairlead-Ed25519 ${'A'.repeat(4000)}`,
  ])('is not seen in the header %j', (header) => {
    expect(parseAuthorization(header)).toBeUndefined();
  });
});

describe('the addresses of a hub', () => {
  it('come from one address with any of the four schemes', () => {
    expect(hubEndpoints('wss://hub.example')?.connect.href).toBe('wss://hub.example/agent');
    expect(hubEndpoints('https://proxy.example/fairlead/')?.connect.href).toBe('wss://proxy.example/fairlead/agent');
    expect(hubEndpoints('ws://127.0.0.1:7700')).toMatchObject({ secure: false, loopback: true });
    expect(hubEndpoints('http://[::1]:7700')?.enrol.href).toBe('http://[::1]:7700/agent/enrol');
    expect(hubEndpoints('ws://10.0.2.2:7700')).toMatchObject({ secure: false, loopback: false });
  });

  it.each(['', 'hub.example', 'ftp://hub.example', 'wss://user:secret@hub.example', 'wss://hub.example/?token=x'])(
    'are not made of %j',
    (address) => {
      expect(hubEndpoints(address)).toBeUndefined();
    },
  );
});

describe('the key file', () => {
  const directories: string[] = [];
  const newDirectory = async () => {
    const path = await mkdtemp(join(tmpdir(), 'fl-key-'));
    directories.push(path);
    return path;
  };
  afterEach(async () => {
    for (const path of directories.splice(0)) await rm(path, { recursive: true });
  });

  it('is made once, private, and loaded again', async () => {
    const directory = await newDirectory();
    const path = join(directory, 'key');
    expect(await loadHostKey(path)).toBeUndefined();
    const keys = await Promise.all([loadOrCreateHostKey(path), loadOrCreateHostKey(path), loadOrCreateHostKey(path)]);
    expect(new Set(keys.map((key) => key.publicKey)).size).toBe(1);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(directory)).toEqual(['key']);
  });

  it('is refused when others can read it or it is no key', async () => {
    const directory = await newDirectory();
    await writeFile(join(directory, 'open'), 'x', { mode: 0o644 });
    await writeFile(join(directory, 'junk'), 'x', { mode: 0o600 });
    await expect(loadHostKey(join(directory, 'open'))).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    await expect(loadHostKey(join(directory, 'junk'))).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});

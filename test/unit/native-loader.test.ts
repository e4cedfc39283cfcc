import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { vsockCapability } from '../../native/capability.ts';
import { load, loadNative, requireNative } from '../../native/index.ts';
import { describeNative } from '../support/native.ts';

const folder = mkdtempSync(join(tmpdir(), 'native-loader-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('the loader of the add-on', () => {
  test('says how to build one that is not there', () => {
    expect(load(join(folder, 'missing.node'))).toEqual({
      available: false,
      reason:
        `the native add-on is not built (no ${folder}/missing.node): ` +
        'run `npm run setup` with a C++ compiler, make and python3 installed',
    });
  });

  test('says why a file cannot be loaded', () => {
    const path = join(folder, 'broken.node');
    writeFileSync(path, 'no shared object');
    const result = load(path);
    expect(result).toMatchObject({
      available: false,
      reason: expect.stringContaining(`could not load the native add-on ${path}`),
    });
  });

  test('refuses one of another version', () => {
    const path = join(folder, 'other.cjs');
    writeFileSync(path, 'module.exports = { interfaceVersion: 0 };');
    expect(load(path)).toMatchObject({ available: false, reason: expect.stringContaining('another version of fairlead') });
  });

  test('gives the same answer each time', () => {
    expect(loadNative()).toBe(loadNative());
  });
});

describeNative('the add-on', (api) => {
  test('is what requireNative gives', () => {
    expect(requireNative()).toBe(api);
  });

  test('has a capability that is there or says why not', () => {
    const capability = vsockCapability();
    const here = { available: true, transport: 'vhost-vsock', localCid: expect.any(Number) };
    const missing = { available: false, reason: expect.stringMatching(/vsock/) };
    expect([here, missing]).toContainEqual(capability);
  });
});

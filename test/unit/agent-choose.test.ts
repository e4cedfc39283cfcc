import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chooseTransport } from '../../agent/streams/choose.ts';

const logger = { debug() {}, info() {}, warn() {}, error() {} };

describe('the choice of a vsock transport', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fl-choose-'));
    await writeFile(join(directory, 'vhost-device-vsock'), '#!/bin/sh\n');
    await chmod(join(directory, 'vhost-device-vsock'), 0o755);
    await writeFile(join(directory, 'plain'), '');
  });
  afterAll(() => rm(directory, { recursive: true }));

  it('is none where it is turned off', async () => {
    expect(await chooseTransport({ want: 'off', path: directory, logger })).toMatchObject({ available: false });
  });

  it('is the daemon that stands on PATH', async () => {
    const chosen = await chooseTransport({ want: 'vhost-user', path: `/nowhere:${directory}`, logger });
    expect(chosen).toMatchObject({ available: true, transport: { kind: 'vhost-user', halfClose: false } });
  });

  it('is the daemon that is named', async () => {
    const daemon = join(directory, 'vhost-device-vsock');
    expect(await chooseTransport({ want: 'vhost-user', daemon, path: '', logger })).toMatchObject({ available: true });
  });

  it.each([
    [undefined, 'install the package vhost-device-vsock or set vhostDeviceVsock'],
    ['plain', 'no executable vhost-device-vsock at'],
    ['.', 'no executable vhost-device-vsock at'],
  ])('is none where the daemon is missing (%s), and says what to do', async (name, reason) => {
    const daemon = name === undefined ? undefined : `${directory}/${name}`;
    const chosen = await chooseTransport({ want: 'vhost-user', daemon, path: '/nowhere', logger });
    expect(chosen).toMatchObject({ available: false, reason: expect.stringContaining(reason) });
  });

  it('says for each way why it is not to be had', async () => {
    const chosen = await chooseTransport({ want: 'auto', path: '/nowhere', logger });
    const reason = chosen.available ? 'vhost-vsock: available; vhost-user: not asked' : chosen.reason;
    expect(reason).toMatch(/vhost-vsock: .+; vhost-user: .+/);
  });
});

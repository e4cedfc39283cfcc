import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { FairleadError } from '../../shared/errors.ts';
import { parseNotification, parseParams, parseResult, parseWith } from '../../shared/protocol/validate.ts';

function refusal(run: () => unknown): FairleadError {
  try {
    run();
  } catch (error) {
    if (error instanceof FairleadError) return error;
    throw error;
  }
  throw new Error('was not refused');
}

const spec = (fields: object) => ({ spec: { name: 'web', ...fields } });
const LONG = 'S3CRET'.repeat(2000);

describe('params', () => {
  it('come with every default filled in', () => {
    expect(parseParams('vm.create', { spec: { name: 'web' } })).toEqual({
      spec: {
        name: 'web',
        labels: {},
        machine: 'q35',
        accelerator: 'auto',
        cpus: { count: 1 },
        memory: { bytes: 256 * 1024 ** 2, backing: 'anonymous' },
        boot: {},
        disks: [],
        networks: [],
        pciDevices: [],
        restart: { policy: 'never', delayMs: 1_000, maxDelayMs: 60_000, healthyMs: 60_000 },
        devices: { rng: true, balloon: true, pvpanic: true, vmgenid: true, hotplugSlots: 4 },
      },
    });
  });

  it.each([
    ['no name', { spec: {} }, 'params.spec.name: is required'],
    ['no spec', {}, 'params.spec: is required'],
    ['a list for params', [], 'params.spec: is required'],
    ['null for params', null, 'params: must be an object, not null'],
    ['an empty name', spec({ name: '' }), 'params.spec.name: must not be empty'],
    ['a name with a path', spec({ name: '../etc' }), 'params.spec.name: must be lower-case letters, digits and inner dashes'],
    ['a name that is an option', spec({ name: '-rf' }), 'params.spec.name: must be lower-case letters, digits and inner dashes'],
    ['a name with a newline', spec({ name: 'web\n' }), 'params.spec.name: must be lower-case letters, digits and inner dashes'],
    ['a name in Cyrillic', spec({ name: 'wеb' }), 'params.spec.name: must be lower-case letters, digits and inner dashes'],
    ['a name of 64 characters', spec({ name: 'a'.repeat(64) }), 'params.spec.name: must have at most 63 characters'],
    ['a name that is a number', spec({ name: 5 }), 'params.spec.name: must be a string, not a number'],
    ['an unknown field', spec({ nmae: 1 }), 'params.spec.nmae: is not a known field'],
    [
      'an unknown field at depth',
      spec({ disks: [{ path: '/a', colour: 1 }] }),
      'params.spec.disks[0].colour: is not a known field',
    ],
    ['an unknown field beside spec', { ...spec({}), host: 'x' }, 'params.host: is not a known field'],
    ['an inherited name as field', spec({ toString: 1 }), 'params.spec.toString: is not a known field'],
    ['too little memory', spec({ memory: { bytes: '15MiB' } }), 'params.spec.memory.bytes: must be at least 16MiB'],
    ['too little memory as a number', spec({ memory: { bytes: 1024 } }), 'params.spec.memory.bytes: must be at least 16MiB'],
    ['negative memory', spec({ memory: { bytes: -1 } }), 'params.spec.memory.bytes: must be at least 16MiB'],
    ['half a byte', spec({ memory: { bytes: 16777216.5 } }), 'params.spec.memory.bytes: must be a whole number'],
    [
      'memory beyond 2^53',
      spec({ memory: { bytes: '99999999999TiB' } }),
      'params.spec.memory.bytes: must be less than 2^53 bytes',
    ],
    [
      'memory in an unknown unit',
      spec({ memory: { bytes: '1 parsec' } }),
      'params.spec.memory.bytes: must be a number of bytes, or a size such as 512MiB',
    ],
    ['no CPU', spec({ cpus: { count: 0 } }), 'params.spec.cpus.count: must be at least 1'],
    ['too many CPUs', spec({ cpus: { count: 1025 } }), 'params.spec.cpus.count: must be at most 1024'],
    ['a CPU count as text', spec({ cpus: { count: '2' } }), 'params.spec.cpus.count: must be a number, not text'],
    [
      'a CPU model that injects an option',
      spec({ cpus: { model: 'host -monitor stdio' } }),
      'params.spec.cpus.model: must match /^[A-Za-z0-9._+=,-]+$/',
    ],
    ['a list for an object', spec({ cpus: [] }), 'params.spec.cpus: must be an object, not a list'],
    ['an object for a list', spec({ disks: { 0: {} } }), 'params.spec.disks: must be a list, not an object'],
    [
      'a relative path',
      spec({ boot: { kernel: 'vmlinuz' } }),
      'params.spec.boot.kernel: must be an absolute path on the host, without NUL characters, or image:NAME:TAG or image:sha256:DIGITS',
    ],
    [
      'a path with NUL',
      spec({ boot: { kernel: '/a\0b' } }),
      'params.spec.boot.kernel: must be an absolute path on the host, without NUL characters, or image:NAME:TAG or image:sha256:DIGITS',
    ],
    ['arguments with NUL', spec({ boot: { args: 'a\0b' } }), 'params.spec.boot.args: must not contain a NUL character'],
    [
      '27 disks',
      spec({ disks: Array.from({ length: 27 }, () => ({ path: '/a' })) }),
      'params.spec.disks: must have at most 26 entries',
    ],
    ['an unknown machine', spec({ machine: 'pc' }), 'params.spec.machine: must be one of "q35", "microvm", "virt"'],
    [
      'an unknown network',
      spec({ networks: [{ type: 'macvlan' }] }),
      'params.spec.networks[0].type: must be one of "tap", "bridge", "user"',
    ],
    [
      'a MAC of five bytes',
      spec({ networks: [{ type: 'user', mac: '52:54:00:12:34' }] }),
      'params.spec.networks[0].mac: must be the MAC address of one host, such as 52:54:00:12:34:56, with an even first byte',
    ],
    [
      'a tap name with a slash',
      spec({ networks: [{ type: 'tap', tap: 'a/b' }] }),
      'params.spec.networks[0].tap: must be the name of an interface of the host',
    ],
    [
      'a tap that the kernel would name',
      spec({ networks: [{ type: 'tap', tap: 'tap%d' }] }),
      'params.spec.networks[0].tap: must be the name of an interface of the host',
    ],
    [
      'a port beyond 16 bits',
      spec({ networks: [{ type: 'user', forwards: [{ hostPort: 65536, guestPort: 1 }] }] }),
      'params.spec.networks[0].forwards[0].hostPort: must be at most 65535',
    ],
    ['the vsock port ANY', spec({ vsock: { readyPort: 0xffffffff } }), 'params.spec.vsock.readyPort: must be at most 4294967294'],
    [
      '65 labels',
      spec({ labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, ''])) }),
      'params.spec.labels: must have at most 64 entries',
    ],
    [
      'a label that valibot would leave out',
      spec({ labels: { constructor: 'x' } }),
      'params.spec.labels.constructor: is not allowed as a name',
    ],
    [
      'a label key with a blank',
      spec({ labels: { 'a b': 'x' } }),
      'params.spec.labels["a b"]: must match /^[a-zA-Z0-9]([a-zA-Z0-9._/-]*[a-zA-Z0-9])?$/',
    ],
  ])('with %s are refused with the path of the field', (_what, params, message) => {
    const error = refusal(() => parseParams('vm.create', params));
    expect(error.code).toBe('INVALID_PARAMS');
    expect(error.message).toBe(`vm.create: ${message}`);
    const [path, ...rest] = message.split(': ');
    expect(error.details).toEqual({ issues: [{ path, message: rest.join(': ') }] });
  });

  it.each([
    ['name', spec({ name: LONG })],
    ['boot.args', spec({ boot: { args: LONG } })],
    ['boot.kernel', spec({ boot: { kernel: `/${LONG}` } })],
    ['memory.bytes', spec({ memory: { bytes: LONG } })],
    ['machine', spec({ machine: LONG })],
    ['labels', spec({ labels: { a: LONG } })],
    ['networks type', spec({ networks: [{ type: LONG }] })],
    ['cpus', spec({ cpus: LONG })],
  ])('with over-long text in %s are refused without repeating it', (_field, params) => {
    const error = refusal(() => parseParams('vm.create', params));
    expect(error.message.length).toBeLessThan(300);
    expect(JSON.stringify(error.details)).not.toContain('S3CRET');
    expect(error.message).not.toContain('S3CRET');
  });

  it('with an over-long or strange field name are refused with the name cut and made printable', () => {
    expect(refusal(() => parseParams('vm.get', { vm: 'a', ['x'.repeat(500)]: 1 })).message.length).toBeLessThan(150);
    const { message } = refusal(() => parseParams('vm.get', { vm: 'a', 'a\u001b[31m\u202eb': 1 }));
    expect(message).toBe('vm.get: params["a\\u001b[31m\\u202eb"]: is not a known field');
  });

  it('with many faults name ten of them and count the rest', () => {
    const error = refusal(() => parseParams('vm.create', spec({ disks: Array.from({ length: 15 }, () => ({ path: 'a' })) })));
    expect(error.details?.['issues']).toHaveLength(10);
    expect(error.message).toMatch(/; and 5 more$/);
  });

  it('of a method with alternatives are judged by the one that was meant', () => {
    expect(refusal(() => parseParams('vm.args', { spec: { name: 'a', cpus: { count: 0 } } })).message).toBe(
      'vm.args: params.spec.cpus.count: must be at least 1',
    );
    expect(refusal(() => parseParams('vm.args', {})).message).toBe('vm.args: params.vm: is required; params.spec: is required');
  });

  it.each([
    ['512MiB', 512 * 1024 ** 2],
    ['1GiB', 1024 ** 3],
    ['1.5GiB', 1.5 * 1024 ** 3],
    ['1G', 1e9],
    ['1GB', 1e9],
    ['16777216', 16777216],
    ['64 MiB', 64 * 1024 ** 2],
    [16777216, 16777216],
  ])('take %s as a number of bytes', (bytes, expected) => {
    expect(parseParams('vm.create', spec({ memory: { bytes } })).spec.memory.bytes).toBe(expected);
  });
});

describe('a result', () => {
  it('with fields of a newer version is let through', () => {
    const result = { binary: '/usr/bin/qemu', argv: [], since2: true };
    expect(parseResult('vm.args', result)).toEqual(result);
  });

  it('of the wrong shape is PROTOCOL_ERROR with the path', () => {
    const error = refusal(() => parseResult('vm.args', { binary: 1, argv: [] }));
    expect(error).toMatchObject({ code: 'PROTOCOL_ERROR', message: 'vm.args: result.binary: must be a string, not a number' });
  });
});

describe('a notification', () => {
  const event = {
    epoch: 'e1',
    seq: 1,
    time: '2026-01-31T12:00:00.000Z',
    vm: 'web',
    type: 'vm.started',
    state: 'running',
    data: { generation: 1, pid: 2, accelerator: 'kvm' },
  };

  it('with fields of a newer version is let through', () => {
    expect(parseNotification('vm.event', { ...event, since2: true })).toMatchObject(event);
  });

  it('of the wrong shape is PROTOCOL_ERROR with the path', () => {
    const error = refusal(() => parseNotification('vm.event', { ...event, seq: -1 }));
    expect(error).toMatchObject({ code: 'PROTOCOL_ERROR', message: 'vm.event: params.seq: must be at least 0' });
  });
});

describe('any value from outside', () => {
  it('is named as its reader calls it, with the code that its reader gives', () => {
    const schema = v.strictObject({ url: v.pipe(v.string(), v.url()) });
    const error = refusal(() => parseWith(schema, { url: 'x' }, 'hello', 'PROTOCOL_ERROR'));
    expect(error).toMatchObject({ code: 'PROTOCOL_ERROR', message: 'hello.url: is not a valid url' });
    expect(parseWith(schema, { url: 'ws://a' }, 'hello')).toEqual({ url: 'ws://a' });
  });
});

/** Where a VM may be sent, as far as the contract goes: QEMU takes commands and files for a place as well. */
import { describe, expect, it } from 'vitest';
import { parseParams } from '../../shared/protocol/validate.ts';

const parse = (uri: string) => parseParams('vm.migrate', { vm: 'web', uri });

describe('a migration', () => {
  it.each(['tcp:10.0.0.7:4444', 'tcp:host-7.example:1', 'tcp:[fe80::1]:4444', 'unix:/run/fairlead/in', 'unix:/run/a,b=c'])(
    'may go to %s',
    (uri) => {
      expect(parse(uri)).toMatchObject({ uri, wait: true, maxBandwidthBytes: 0 });
    },
  );

  it.each([
    'exec:cat > /etc/passwd',
    'file:/var/lib/x',
    'fd:3',
    'rdma:10.0.0.7:4444',
    'unix:relative',
    'unix:/a\0b',
    `unix:/${'a'.repeat(107)}`,
    'tcp:10.0.0.7',
    'tcp:10.0.0.7:4444,to=9999',
    'tcp:a,b:1',
    'tcp::4444',
    'TCP:10.0.0.7:4444',
    ' unix:/run/x',
    'unix:/run/x\nexec:id\0',
    '',
  ])('never goes to %j', (uri) => {
    expect(() => parse(uri)).toThrow('params.uri');
  });
});

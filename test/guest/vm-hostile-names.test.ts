/**
 * A real QEMU started from names that are made to confuse: what would end a value, begin an option, a comment, a protocol or a JSON object,
 * as names of disks, firmware, kernel, state directory and run directory. It must open exactly these files, and know of no device but ours.
 */
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { artefacts } from '../../cli/image/cache.ts';
import { spec, type TestHost, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const { vmlinux, initrd } = artefacts();

const NAMES = [
  'a b',
  ' ',
  'x,readonly=on',
  ',,',
  'id=y,if=none',
  '"quoted"',
  "it's",
  'back\\slash',
  'new\nline',
  'tab\tbell\u0007escape\u001b[31m',
  '漢字 é ü 🙂',
  '\u202Eright-to-left',
  '{"driver":"null-co"}',
  'json:{"driver":"null-co"}',
  'nbd:localhost:1',
  'fat:rw:.',
  'fd:3',
  '%s%n',
  '$(touch pwned)',
  '-S',
  '-device',
  '--',
  '#comment',
  '@file',
  'a'.repeat(255),
  '..hidden',
];

const Nodes = v.array(v.looseObject({ drv: v.string(), file: v.string(), ro: v.boolean(), 'node-name': v.string() }));
const Pci = v.array(v.looseObject({ devices: v.array(v.looseObject({ qdev_id: v.string() })) }));

describe.skipIf(missing !== undefined)('from hostile names', () => {
  let directory: string;
  let host: TestHost;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fl,x="\n'));
    host = await testHost({ stateDir: join(directory, 's,readonly=on "é\n'), runDir: join(directory, 'r,=') });
  });
  afterAll(async () => {
    await host?.[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  async function folder(name: string): Promise<string> {
    const path = join(directory, name);
    await mkdir(path, { recursive: true });
    return path;
  }

  async function openFiles(vm: string): Promise<string[]> {
    const nodes = v.parse(Nodes, await host.manager.qmp(vm, { execute: 'query-named-block-nodes', arguments: { flat: true } }));
    return nodes.filter(({ drv }) => drv === 'file').map(({ file, ro }) => `${ro ? 'ro' : 'rw'} ${file}`);
  }

  test('a VM opens exactly the disks that it names', async () => {
    const place = await folder('disks, "of" ÜΩ\n=on');
    const disks = NAMES.map((name, index) => ({ path: join(place, name), readOnly: index % 2 === 0 }));
    for (const { path } of disks) await writeFile(path, Buffer.alloc(64 * 1024));
    const vm = spec({ name: 'web', disks });
    await host.manager.run(vm);
    expect((await openFiles('web')).sort()).toEqual(
      disks.map(({ path, readOnly }) => `${readOnly ? 'ro' : 'rw'} ${path}`).sort(),
    );

    const [root, ...behindPorts] = v.parse(Pci, await host.manager.qmp('web', { execute: 'query-pci' }));
    const ids = [root, ...behindPorts].flatMap((bus) => bus?.devices ?? []).map(({ qdev_id }) => qdev_id);
    const known = [
      ...vm.disks.map(({ id }) => id),
      'rng0',
      'balloon0',
      'pvpanic0',
      ...Array.from({ length: 30 }, (_, n) => `slot${n}`),
    ];
    expect(ids.filter((id) => id !== '' && !known.includes(id))).toEqual([]);
    await host.manager.delete('web', { force: true });
  });

  test('firmware, media and their variables are opened as they are named', async () => {
    const place = await folder('firmware,file=/etc/passwd');
    const files = {
      code: join(place, 'CODE,readonly=off\n.fd'),
      vars: join(place, '-VARS "x"'),
      iso: join(place, '{"a":1}.iso'),
    };
    for (const path of Object.values(files)) await writeFile(path, Buffer.alloc(256 * 1024));
    const { code, vars, iso } = files;
    await host.manager.run(spec({ name: 'web', boot: { firmware: { code, vars } }, disks: [{ media: 'cdrom', path: iso }] }));
    expect((await openFiles('web')).sort()).toEqual([`ro ${code}`, `rw ${vars}`, `ro ${iso}`].sort());
    await host.manager.delete('web', { force: true });
  });

  test.skipIf(vmlinux === undefined || initrd === undefined)(
    'a guest boots from such a kernel, and reads its arguments whole',
    async () => {
      const place = await folder('boot,kernel=/dev/null');
      const kernel = join(place, '-initrd "k",\n');
      const ramDisk = join(place, 'i,json:{"x":1} é');
      await cp(vmlinux ?? '', kernel);
      await cp(initrd ?? '', ramDisk);
      const odd = `odd=",id=x,-S,{'a':1},%s,$(x)"`;
      const args = `console=ttyS0 reboot=t panic=-1 ${odd}`;
      await host.manager.run(spec({ name: 'web', memory: { bytes: '256MiB' }, boot: { kernel, initrd: ramDisk, args } }));
      const consoleLog = join(host.options.stateDir, 'vms/web/logs/console.log');
      await expect
        .poll(() => readFile(consoleLog, 'utf8'), { timeout: 120_000, interval: 200 })
        .toContain('FAIRLEAD GUEST READY');
      expect(await readFile(consoleLog, 'utf8')).toContain(`Kernel command line: ${args}`);
      const { argv } = await host.manager.args({ vm: 'web' });
      expect(argv[argv.indexOf('-kernel') + 1]).toBe(kernel);
    },
  );
});

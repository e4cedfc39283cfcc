/** Weakness 18: a comma in a path began an option of its own. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)('a disk whose name is options is that file, with the options of its spec', async () => {
  await using host = await testHost();
  const { manager, options } = host;
  const folder = join(options.stateDir, 'a,b');
  await mkdir(folder);
  const other = join(folder, 'other.raw');
  const path = join(folder, 'x.raw,readonly=on,file.filename=other.raw,if=none');
  for (const file of [other, path]) await writeFile(file, Buffer.alloc(1024 ** 2));
  await manager.run(spec({ name: 'web', disks: [{ path }] }));
  const nodes = await manager.qmp('web', { execute: 'query-named-block-nodes', arguments: { flat: true } });
  const files = (Array.isArray(nodes) ? nodes : []).filter(({ drv }) => drv === 'file');
  expect(files.map(({ file, ro }) => ({ file, ro }))).toEqual([{ file: path, ro: false }]);
});

test.skipIf(missing !== undefined)('a serial number, a kernel and its arguments that look like options are none', async () => {
  await using host = await testHost();
  const { manager, options } = host;
  const [path, kernel] = [join(options.stateDir, 'd.raw'), join(options.stateDir, '-S,id=x')];
  for (const file of [path, kernel]) await writeFile(file, Buffer.alloc(1024 ** 2));
  const wanted = spec({ name: 'web', disks: [{ path, serial: 'a,b=c"}' }], boot: { kernel, args: '-device x,y "z' } });
  const { argv } = await manager.args({ spec: wanted });
  expect(argv[argv.indexOf('-kernel') + 1]).toBe(kernel);
  expect(argv[argv.indexOf('-append') + 1]).toBe('-device x,y "z');
  expect(argv.filter((argument) => argument === '-device').length).toBe(
    argv.filter((argument, index) => argv[index - 1] === '-device' && argument.startsWith('{"driver":')).length,
  );
});

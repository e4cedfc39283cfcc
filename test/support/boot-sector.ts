/**
 * Guests of 512 bytes, which the firmware of an emulated q35 runs within a fraction of a second: one says a text on its serial console and
 * then does what no firmware does by itself. For tests that need a guest that acts and no operating system.
 *
 * 16-bit code for address 0x7c00, made with GNU as. The text is at 0x7d00, what an act needs besides at 0x7d80.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { VmSpec, VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { spec, type TestHost } from './vm.ts';

/** SeaBIOS boots from no disk that is too small for a geometry. */
const DISK_BYTES = 1024 ** 2;
const TEXT_AT = 0x100;
const DATA_AT = 0x180;
const MAX_TEXT_BYTES = DATA_AT - TEXT_AT - 1;

/** ds = 0; the text at 0x7d00, up to its NUL, byte by byte to port 0x3f8. */
const SAY = '31c08ed8 be007d fc ac84c0 7406 baf803 ee ebf5';

const ACTS = {
  /** hlt, for ever. */
  halt: { code: 'f4 ebfd', data: '' },
  /** Port 0x604, q35's PM1a control: SLP_EN with the type of S5. */
  'power-off': { code: 'ba0406 b80020 ef f4ebfd', data: '' },
  /** The date that the firmware has put at f000:fff5, to port 0x3f8; then as above. */
  'tell-bios-date': { code: 'b800f0 8ed8 bef5ff b90800 baf803 ac ee e2fc ba0406 b80020 ef f4ebfd', data: '' },
  /** Port 0xcf9: a hard reset. */
  reset: { code: 'baf90c b006 ee f4ebfd', data: '' },
  /** A flat data segment (its descriptors are the data), the BAR of the device at 00:04.0, and 1 ("panicked") into it: pvpanic. */
  panic: {
    code: 'fa 660f0116807d 0f20c0 0c01 0f22c0 bb0800 8edb 24fe 0f22c0 baf80c 66b810200080 66ef bafc0c 66ed 67c60001 f4ebfd',
    data: '0f00 887d0000 0000 0000000000000000 ffff0000 0092cf00',
  },
  /** int 13h, again and again: the first sector of the first disk written to its second. */
  write: { code: 'be807d b80043 b280 cd13 ebf4', data: '1000 0100 007c0000 0100000000000000' },
} as const;

export interface BootSector {
  readonly says?: string;
  readonly does?: keyof typeof ACTS;
}

export function bootSector({ says = '', does = 'halt' }: BootSector): Buffer {
  if (Buffer.byteLength(says) > MAX_TEXT_BYTES) throw new Error(`a boot sector has room for ${MAX_TEXT_BYTES} bytes of text`);
  const { code, data } = ACTS[does];
  const sector = Buffer.alloc(512);
  sector.set(bytes(SAY + code));
  sector.write(says, TEXT_AT);
  sector.set(bytes(data), DATA_AT);
  sector.set([0x55, 0xaa], 510);
  return sector;
}

/** The spec of a VM that boots from such a sector, on a disk of its own below the host's state directory. */
export async function bootSectorVm(host: TestHost, input: VmSpecInput, program: BootSector): Promise<VmSpec> {
  const directory = join(host.options.stateDir, 'boot');
  const path = join(directory, `${input.name}.raw`);
  await mkdir(directory, { recursive: true });
  const disk = Buffer.alloc(DISK_BYTES);
  disk.set(bootSector(program));
  await writeFile(path, disk);
  return spec({ ...input, disks: [{ path }, ...(input.disks ?? [])] });
}

function bytes(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex');
}

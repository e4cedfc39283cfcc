/**
 * Takes the uncompressed kernel out of a bzImage, so that QEMU can start it directly through PVH and the guest need not unpack it under
 * an emulator (Linux, Documentation/arch/x86/boot.rst: fields `setup_sects`, `payload_offset`, `payload_length`).
 *
 * Debian's cloud kernels are packed with LZ4 in its "legacy" frame format (lz4_Frame_format.md, "Legacy frame"; lz4_Block_format.md).
 * Other packings give undefined: the bzImage boots as well, only slower.
 */
import { FairleadError } from '../../shared/errors.ts';

const SECTOR_BYTES = 512;
/** Offsets in the bzImage's setup header. */
const SETUP = { sectors: 0x1f1, magic: 0x202, payloadOffset: 0x248, payloadLength: 0x24c } as const;
const SETUP_MAGIC = 'HdrS';
const LZ4_LEGACY_MAGIC = 0x184c2102;
/** A legacy frame's blocks are of 8 MiB uncompressed, but for the last. */
const LZ4_LEGACY_BLOCK_BYTES = 8 * 1024 * 1024;

export function extractVmlinux(bzImage: Buffer): Buffer | undefined {
  if (bzImage.toString('latin1', SETUP.magic, SETUP.magic + 4) !== SETUP_MAGIC)
    throw new FairleadError('UNSUPPORTED', 'the kernel is no bzImage');
  const start = ((bzImage[SETUP.sectors] || 4) + 1) * SECTOR_BYTES + bzImage.readUInt32LE(SETUP.payloadOffset);
  const payload = bzImage.subarray(start, start + bzImage.readUInt32LE(SETUP.payloadLength));
  if (payload.readUInt32LE(0) !== LZ4_LEGACY_MAGIC) return undefined;
  return decompressLegacyLz4(payload);
}

/** The kernel's build appends the uncompressed size as four bytes after the last block; reading stops there. */
function decompressLegacyLz4(frame: Buffer): Buffer {
  const size = frame.readUInt32LE(frame.length - 4);
  const output = Buffer.alloc(size);
  let written = 0;
  for (let at = 4; written < size; ) {
    const length = frame.readUInt32LE(at);
    written = decompressLz4Block(
      frame.subarray(at + 4, at + 4 + length),
      output,
      written,
      Math.min(size, written + LZ4_LEGACY_BLOCK_BYTES),
    );
    at += 4 + length;
  }
  return output;
}

/**
 * One LZ4 block into `output` from `start`, never beyond `limit`; gives the offset after the last byte written. A block is a row of
 * sequences: a token (high four bits literals, low four bits match length less four, 15 means "more bytes follow"), literals, a two-byte
 * distance back. The last sequence ends after its literals.
 */
export function decompressLz4Block(block: Buffer, output: Buffer, start: number, limit: number): number {
  let from = 0;
  let to = start;
  const next = (): number => {
    const byte = block[from++];
    if (byte === undefined) throw corrupt();
    return byte;
  };
  const extendedLength = (nibble: number): number => {
    let length = nibble;
    if (nibble === 15) for (let byte = 255; byte === 255; length += byte) byte = next();
    return length;
  };
  while (from < block.length) {
    const token = next();
    const literals = extendedLength(token >> 4);
    if (from + literals > block.length || to + literals > limit) throw corrupt();
    block.copy(output, to, from, from + literals);
    from += literals;
    to += literals;
    if (from === block.length) break;
    const distance = next() | (next() << 8);
    const length = extendedLength(token & 15) + 4;
    if (distance === 0 || to - distance < start || to + length > limit) throw corrupt();
    for (const end = to + length; to < end; ) {
      // The match may overlap what it writes: copy at most one distance at a time.
      const step = Math.min(distance, end - to);
      output.copy(output, to, to - distance, to - distance + step);
      to += step;
    }
  }
  return to;
}

function corrupt(): FairleadError {
  return new FairleadError('PROTOCOL_ERROR', 'the LZ4 data is corrupt');
}

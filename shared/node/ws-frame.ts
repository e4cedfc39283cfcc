/**
 * Messages as frames (RFC 6455 §5.2), whole ones in one piece of memory. `ws` gives the socket header and payload one after the other, and
 * asks it to keep them together: that is half of what it costs to send a call, and a tenth of what bulk data costs.
 *
 * `masked` frames, as a client's must be, have a mask of zeros.
 */
const FINAL_TEXT = 0x81;
const FINAL_BINARY = 0x82;
const MASKED = 0x80;
const MASK_BYTES = 4;
/** What lengths of 7 and of 16 bits can say, and the values that announce 16 and 64 bits. */
const MAX_SHORT_BYTES = 125;
const MAX_BYTES_16 = 0xffff;
const LENGTH_16_FOLLOWS = 126;
const LENGTH_64_FOLLOWS = 127;

/** The longest header. */
export const MAX_HEADER_BYTES = 2 + 8 + MASK_BYTES;

/** Undefined for a text that is longer than 64 KiB: there the header costs little. */
export function textFrame(text: string, masked: boolean): Buffer | undefined {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_BYTES_16) return undefined;
  const textAt = headerBytes(bytes, masked);
  const frame = Buffer.allocUnsafe(textAt + bytes);
  writeHeader(frame, FINAL_TEXT, bytes, masked);
  frame.write(text, textAt);
  return frame;
}

/** Of a binary message of `bytes`, into the beginning of `frame`. Returns its length. */
export function writeBinaryHeader(frame: Buffer, bytes: number, masked: boolean): number {
  writeHeader(frame, FINAL_BINARY, bytes, masked);
  return headerBytes(bytes, masked);
}

function headerBytes(bytes: number, masked: boolean): number {
  const lengthBytes = bytes <= MAX_SHORT_BYTES ? 0 : bytes <= MAX_BYTES_16 ? 2 : 8;
  return 2 + lengthBytes + (masked ? MASK_BYTES : 0);
}

function writeHeader(frame: Buffer, first: number, bytes: number, masked: boolean): void {
  const mask = masked ? MASKED : 0;
  frame[0] = first;
  if (bytes <= MAX_SHORT_BYTES) {
    frame[1] = mask | bytes;
  } else if (bytes <= MAX_BYTES_16) {
    frame[1] = mask | LENGTH_16_FOLLOWS;
    frame.writeUInt16BE(bytes, 2);
  } else {
    frame[1] = mask | LENGTH_64_FOLLOWS;
    frame.writeBigUInt64BE(BigInt(bytes), 2);
  }
  if (masked) frame.fill(0, headerBytes(bytes, false), headerBytes(bytes, true));
}

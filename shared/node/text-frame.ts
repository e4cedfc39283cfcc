/**
 * A text message as one frame without a mask (RFC 6455 §5.2), as a server sends it, in one piece of memory. `ws` gives the socket header and
 * text one after the other, and the socket puts them together again for the kernel: that is half of what it costs a hub to send a call.
 */
const FINAL_TEXT = 0x81;
const MAX_SHORT_BYTES = 125;
const LENGTH_FOLLOWS = 126;
/** What a length of 16 bits can say. */
const MAX_BYTES = 0xffff;

/** Undefined for a text that is longer: there the header costs little. */
export function textFrame(text: string): Buffer | undefined {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_BYTES) return undefined;
  const headerBytes = bytes <= MAX_SHORT_BYTES ? 2 : 4;
  const frame = Buffer.allocUnsafe(headerBytes + bytes);
  frame[0] = FINAL_TEXT;
  if (headerBytes === 2) {
    frame[1] = bytes;
  } else {
    frame[1] = LENGTH_FOLLOWS;
    frame.writeUInt16BE(bytes, 2);
  }
  frame.write(text, headerBytes);
  return frame;
}

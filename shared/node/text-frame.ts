/**
 * A text message as one frame (RFC 6455 §5.2) in one piece of memory. `ws` gives the socket header and text one after the other, and the socket
 * puts them together again for the kernel: that is half of what it costs to send a call.
 */
const FINAL_TEXT = 0x81;
const MASKED = 0x80;
const MASK_BYTES = 4;
const MAX_SHORT_BYTES = 125;
const LENGTH_FOLLOWS = 126;
/** What a length of 16 bits can say. */
const MAX_BYTES = 0xffff;

/** With a mask of zeros where it is `masked`, as a client's must be. Undefined for a text that is longer: there the header costs little. */
export function textFrame(text: string, masked: boolean): Buffer | undefined {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_BYTES) return undefined;
  const maskAt = bytes <= MAX_SHORT_BYTES ? 2 : 4;
  const textAt = masked ? maskAt + MASK_BYTES : maskAt;
  const frame = Buffer.allocUnsafe(textAt + bytes);
  frame[0] = FINAL_TEXT;
  frame[1] = (masked ? MASKED : 0) | (maskAt === 2 ? bytes : LENGTH_FOLLOWS);
  if (maskAt === 4) frame.writeUInt16BE(bytes, 2);
  if (masked) frame.writeUInt32BE(0, maskAt);
  frame.write(text, textAt);
  return frame;
}

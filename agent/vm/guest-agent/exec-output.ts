/** What of a command's output goes into the answer, and how much does not. */
import type { Cut } from './reply-reader.ts';

export interface OutputRequest {
  /** As the guest agent gave it, without what the reader dropped. */
  readonly base64: string;
  readonly cut: Cut | undefined;
  readonly encoding: 'utf8' | 'base64';
  readonly maxBytes: number;
}

export interface ShownOutput {
  readonly text: string;
  readonly cutBytes: number;
}

/** Of one output in JSON, where a control character takes six bytes: two of them fit a message of 256 KiB. */
const MAX_JSON_BYTES = 96 * 1024;

export function shownOutput({ base64, cut, encoding, maxBytes }: OutputRequest): ShownOutput {
  const bytes = Buffer.from(base64, 'base64');
  const totalBytes = bytes.length + droppedBytes(cut);
  const wantedBytes = Math.min(bytes.length, maxBytes);
  if (encoding === 'base64') {
    return { text: bytes.toString('base64', 0, wantedBytes), cutBytes: totalBytes - wantedBytes };
  }
  const shownBytes = lengthThatFits(bytes, wantedBytes);
  return { text: bytes.toString('utf8', 0, shownBytes), cutBytes: totalBytes - shownBytes };
}

/** What is kept ends between two groups of four characters, so what was dropped is whole groups, the last of them padded. */
function droppedBytes(cut: Cut | undefined): number {
  if (cut === undefined) return 0;
  const padding = cut.end.length - cut.end.replaceAll('=', '').length;
  // From a guest that says something else, anything may come: never less than nothing.
  return Math.max(0, Math.floor((cut.droppedBytes / 4) * 3) - padding);
}

/** So many bytes from the beginning, at most, as text make JSON of the size allowed, and break no character in two. */
function lengthThatFits(bytes: Buffer, maxBytes: number): number {
  let length = maxBytes;
  for (;;) {
    const jsonBytes = Buffer.byteLength(JSON.stringify(bytes.toString('utf8', 0, length)));
    if (jsonBytes <= MAX_JSON_BYTES) break;
    length = Math.floor((length * MAX_JSON_BYTES) / jsonBytes);
  }
  // A character goes on in bytes of the form 10xxxxxx (RFC 3629).
  while (length < bytes.length && length > 0 && ((bytes[length] ?? 0) & 0xc0) === 0x80) length -= 1;
  return length;
}

/** Numbers and keys inside payloads: big-endian, offsets exact in a double, keys as strings that a Map can have. */
import { type Frame, frameName, violation } from './frame.ts';
import { WIRE } from './limits.ts';

/** 128 random bits as 16 characters, one a byte: what a stream is known by beyond its line. */
export type StreamKey = string;

/** u64 as a double. Beyond 2^53 - 1 no offset of ours can be, and no double is exact. */
export function readU64(frame: Frame, at: number): number {
  const view = new DataView(frame.payload.buffer, frame.payload.byteOffset + at, 8);
  const value = view.getUint32(0) * 0x1_0000_0000 + view.getUint32(4);
  if (value > WIRE.maxOffset) throw violation(frameName(frame.type), frame.offset, 'has an offset beyond 2^53 - 1');
  return value;
}

export function readU32(frame: Frame, at: number): number {
  return new DataView(frame.payload.buffer, frame.payload.byteOffset + at, 4).getUint32(0);
}

export function writeU64(target: Uint8Array, at: number, value: number): void {
  const view = new DataView(target.buffer, target.byteOffset + at, 8);
  view.setUint32(0, Math.floor(value / 0x1_0000_0000));
  view.setUint32(4, value % 0x1_0000_0000);
}

export function writeU32(target: Uint8Array, at: number, value: number): void {
  new DataView(target.buffer, target.byteOffset + at, 4).setUint32(0, value);
}

export function newKey(): StreamKey {
  return String.fromCharCode(...crypto.getRandomValues(new Uint8Array(WIRE.streamKeyBytes)));
}

export function readKey(frame: Frame, at: number): StreamKey {
  return String.fromCharCode(...frame.payload.subarray(at, at + WIRE.streamKeyBytes));
}

export function writeKey(target: Uint8Array, at: number, key: StreamKey): void {
  for (let index = 0; index < WIRE.streamKeyBytes; index += 1) target[at + index] = key.charCodeAt(index);
}

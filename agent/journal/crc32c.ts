/**
 * CRC-32C (Castagnoli: polynomial 0x1EDC6F41, reflected 0x82F63B78; RFC 3720 B.4 has test vectors), the checksum of the journal. Node has
 * the CRC-32 of zlib alone, which finds fewer of the damages of a disk.
 */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = (remainder & 1) === 1 ? (remainder >>> 1) ^ 0x82f63b78 : remainder >>> 1;
  return remainder;
});

/** Goes on from `previous`, the checksum of the bytes before these. */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  let crc = ~previous;
  for (let index = 0; index < bytes.length; index++) {
    // SAFETY: the index is below the length, and the table has a row for each byte.
    crc = (crc >>> 8) ^ (TABLE[(crc ^ (bytes[index] as number)) & 0xff] as number);
  }
  return ~crc >>> 0;
}

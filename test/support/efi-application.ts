/**
 * A UEFI application of 1.5 KiB (UEFI 2.10, chapter 4; PE/COFF), for tests that need firmware to act and no operating system. It says a text on
 * the console, then the character that its variable `Tries` has been counted up to, and whose the firmware is; then it powers the
 * machine off. All of it by the firmware's own services: `OutputString`, `GetVariable`, `SetVariable`, `ResetSystem`.
 *
 * Code that runs wherever it is loaded, made with GNU as. The text is at 0x200 of its only section, as UTF-16.
 */
const CODE =
  '53564883ec38 4889d3' +
  // The text.
  '488b4b40 488d15ec010000 ff5108' +
  // The variable, where there is one by now; else the count stays at '0'.
  '488d0db0000000 488d158b000000 4531c0 4c8d0d91000000 488d3592000000 4889742420 488b4358 ff5048' +
  // Counted up, and kept when the machine is off; '?' where the firmware refuses that.
  'fe06 488d0d83000000 488d155e000000 41b807000000 41b902000000 4889742420 488b4358 ff5058 4885c0 7403 c6063f' +
  // The count, the firmware's vendor, the end of the line.
  '488b4b40 4889f2 ff5108 488b4b40 488b5318 ff5108 488b4b40 488d1548000000 ff5108' +
  // Off.
  'b902000000 31d2 4531c0 4531c9 488b4358 ff5068 f4ebfd 0f1f4000' +
  // The variable's GUID and size, the count, the variable's name, the end of the line.
  '770d9c1e5b3f4a4e9b521c775ae6210f 0200000000000000 300020000000 54007200690065007300 0000 0d000a000000';

const SECTION_AT = 0x1000;
const HEADERS_BYTES = 0x200;
const SECTION_BYTES = 0x400;
const TEXT_AT = 0x200;
const MAX_TEXT_CHARS = (SECTION_BYTES - TEXT_AT) / 2 - 1;

export function efiApplication({ says }: { readonly says: string }): Buffer {
  if (says.length > MAX_TEXT_CHARS) throw new Error(`the application has room for ${MAX_TEXT_CHARS} characters of text`);
  const section = Buffer.alloc(SECTION_BYTES);
  section.set(Buffer.from(CODE.replaceAll(' ', ''), 'hex'));
  section.write(says, TEXT_AT, 'utf16le');
  return Buffer.concat([headers(), section]);
}

/** PE Format, "Optional Header" and "Section Table": fields that are zero here are left out. */
function headers(): Buffer {
  const [peAt, coffAt, optionalAt, optionalBytes] = [0x40, 0x44, 0x58, 0xf0];
  const sectionAt = optionalAt + optionalBytes;
  const header = Buffer.alloc(HEADERS_BYTES);
  header.write('MZ');
  header.writeUInt32LE(peAt, 0x3c);
  header.write('PE\0\0', peAt);
  header.writeUInt16LE(0x8664, coffAt); // machine: x86-64
  header.writeUInt16LE(1, coffAt + 2); // sections
  header.writeUInt16LE(optionalBytes, coffAt + 16);
  header.writeUInt16LE(0x0022, coffAt + 18); // executable, any address; it needs no relocations and so has none
  header.writeUInt16LE(0x020b, optionalAt); // PE32+
  header.writeUInt32LE(SECTION_BYTES, optionalAt + 4); // code
  header.writeUInt32LE(SECTION_AT, optionalAt + 16); // entry point
  header.writeUInt32LE(SECTION_AT, optionalAt + 20); // base of code
  header.writeUInt32LE(SECTION_AT, optionalAt + 32); // alignment in memory
  header.writeUInt32LE(HEADERS_BYTES, optionalAt + 36); // alignment in the file
  header.writeUInt32LE(2 * SECTION_AT, optionalAt + 56); // size of the image
  header.writeUInt32LE(HEADERS_BYTES, optionalAt + 60);
  header.writeUInt16LE(10, optionalAt + 68); // subsystem: EFI application
  header.writeUInt32LE(16, optionalAt + 108); // data directories, all empty
  header.write('.text', sectionAt);
  header.writeUInt32LE(SECTION_BYTES, sectionAt + 8);
  header.writeUInt32LE(SECTION_AT, sectionAt + 12);
  header.writeUInt32LE(SECTION_BYTES, sectionAt + 16);
  header.writeUInt32LE(HEADERS_BYTES, sectionAt + 20);
  header.writeUInt32LE(0xe0000020, sectionAt + 36); // code; may be run, read and written
  return header;
}

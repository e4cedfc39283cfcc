/**
 * What a guest wrote, for a terminal: as text, with nothing in it that steers the terminal. Colours are left out; every other control
 * sequence is shown instead of obeyed. A file or a pipe gets the bytes as they are, by who writes to it.
 */
import { printable } from '../shared/printable.ts';

const ESCAPE = String.fromCharCode(0x1b);
/** SGR, "select graphic rendition" (ECMA-48 8.3.117). */
const COLOURS = new RegExp(`${ESCAPE}\\[[0-9;:]*m`, 'g');
/** What may be the beginning of one, at the end of a piece; no colour is longer. */
const UNFINISHED = new RegExp(`(\r|${ESCAPE}(\\[[0-9;:]{0,32})?)$`);

export class GuestText {
  readonly #decoder = new TextDecoder();
  #held = '';

  /** Pieces of a line may come apart anywhere. */
  push(bytes: Uint8Array): string {
    const text = this.#held + this.#decoder.decode(bytes, { stream: true });
    this.#held = UNFINISHED.exec(text)?.[0] ?? '';
    return harmless(text.slice(0, text.length - this.#held.length));
  }

  end(): string {
    return harmless(this.#held + this.#decoder.decode());
  }
}

/** Serial consoles end lines with CR LF, and tabs are no harm. */
function harmless(text: string): string {
  const plain = text.replaceAll(/\r+\n/g, '\n').replaceAll(COLOURS, '');
  return plain.split('\t').map(printable).join('\t');
}

export function isTerminal(stream: NodeJS.WritableStream | NodeJS.ReadableStream): boolean {
  return 'isTTY' in stream && stream.isTTY === true;
}

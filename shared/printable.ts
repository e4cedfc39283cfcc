/** Text from others, made fit for a terminal or a log that people read. */

/** C0 but for the line break, DEL, C1, and the marks that turn or hide text: each can move a terminal's cursor or its reader's eye. */
const UNPRINTABLE = /[^\n\P{Cc}]|[\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu;

/** Such characters as `\u001b`, which within JSON stands for the same. Line breaks stay. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escaped);
}

/** Line breaks too. */
export function printableLine(text: string): string {
  return printable(text).replaceAll('\n', escaped);
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

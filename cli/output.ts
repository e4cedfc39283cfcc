/**
 * What a command prints. Data goes to standard output, talk to standard error; tables for people, JSON for programs. Keys of the JSON
 * are the contract's and never change with the locale. What hosts, guests and hubs say is escaped: nothing of it steers a terminal.
 */
import { printable, printableLine } from '../shared/printable.ts';

export type OutputFormat = 'table' | 'json' | 'jsonl' | 'name';
export const OUTPUT_FORMATS: readonly OutputFormat[] = ['table', 'json', 'jsonl', 'name'];

export interface Streams {
  readonly stdin: NodeJS.ReadableStream;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
}

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string | number | undefined;
}

export class Output {
  readonly format: OutputFormat;
  readonly #streams: Streams;

  constructor(streams: Streams, format: OutputFormat) {
    this.#streams = streams;
    this.format = format;
  }

  /** A list: a table with its hint when empty, an array, one record a line, or only the names. */
  list<Row>(rows: readonly Row[], columns: readonly Column<Row>[], options: { name: (row: Row) => string; empty: string }): void {
    if (this.format === 'json') return this.data(`${JSON.stringify(rows, null, 2)}\n`);
    if (this.format === 'jsonl') return this.data(rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    if (this.format === 'name') return this.data(rows.map((row) => `${printableLine(options.name(row))}\n`).join(''));
    if (rows.length === 0) return this.say(options.empty);
    this.data(renderTable(rows, columns));
  }

  /** One record: pretty JSON in every format but `table`, which shows `lines` (label and value). */
  record(value: unknown, lines: readonly (readonly [string, string | number | undefined])[], name?: string): void {
    if (this.format === 'name' && name !== undefined) return this.data(`${printableLine(name)}\n`);
    if (this.format === 'jsonl') return this.data(`${JSON.stringify(value)}\n`);
    if (this.format !== 'table') return this.data(`${JSON.stringify(value, null, 2)}\n`);
    const shown = lines.filter(([, text]) => text !== undefined && text !== '');
    const width = Math.max(0, ...shown.map(([label]) => label.length));
    this.data(shown.map(([label, text]) => `${label.padEnd(width)}  ${printableLine(String(text))}\n`).join(''));
  }

  data(text: string): void {
    this.#streams.stdout.write(printable(text));
  }

  /** Talk: never part of the data. */
  say(text: string): void {
    this.#streams.stderr.write(`${printable(text)}\n`);
  }
}

function renderTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const cells = rows.map((row) => columns.map((column) => printableLine(String(column.value(row) ?? '-'))));
  const widths = columns.map((column, index) => Math.max(column.title.length, ...cells.map((line) => line[index]?.length ?? 0)));
  const render = (line: readonly string[]): string =>
    `${line
      .map((text, index) => text.padEnd(widths[index] ?? 0))
      .join('  ')
      .trimEnd()}\n`;
  return render(columns.map((column) => column.title)) + cells.map(render).join('');
}

/** Relative age for tables: `12s`, `5m`, `3h`, `9d`. */
export function age(timestamp: string | undefined, nowMs: number): string | undefined {
  if (timestamp === undefined) return undefined;
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(timestamp)) / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** Bytes for people, in binary units: `512MiB`. */
export function humanBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const exponent = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** exponent;
  return `${Number.isInteger(value) ? value : value.toFixed(1)}${units[exponent]}`;
}

/**
 * Lists that may outgrow one message come in pages: rows in order of name, `next` on every page but the last. The next page is asked
 * for with `after` set to the last name of this one, so that rows that come and go in between are neither doubled nor skipped.
 */
import * as v from 'valibot';
import { Name } from './common.ts';

const MAX_PAGE_ROWS = 1000;

export const PageParams = v.strictObject({
  /** Only rows whose name comes after this one. */
  after: v.optional(Name),
  /** At most so many rows; fewer come where they are long. */
  limit: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(MAX_PAGE_ROWS)), MAX_PAGE_ROWS),
});
export type PageParams = v.InferOutput<typeof PageParams>;

const NEXT = v.optional(Name);

/** Schema of a page: `{[field]: rows, next?}`. */
export function pageOf<const F extends string, S extends v.GenericSchema>(field: F, row: S) {
  const rows = v.array(row);
  // SAFETY: a computed key of literal type F; TypeScript widens it to string.
  const entries = { [field]: rows, next: NEXT } as { readonly [K in F]: typeof rows } & {
    readonly next: typeof NEXT;
  };
  return v.strictObject(entries);
}

/** Bytes of rows in a page: leaves room for the envelope in a message of 256 KiB. */
const MAX_PAGE_BYTES = 192 * 1024;

export interface Page<T> {
  readonly rows: readonly T[];
  /** `after` of the next page; undefined on the last. */
  readonly next: string | undefined;
}

/** As many of the first rows as fit a message, and one at least. */
export function fitting<T>(rows: readonly T[], limit = rows.length): readonly T[] {
  const encoder = new TextEncoder();
  let bytes = 0;
  const end = rows.findIndex((row, index) => {
    bytes += encoder.encode(JSON.stringify(row)).length + 1;
    return index === limit || (index > 0 && bytes > MAX_PAGE_BYTES);
  });
  return end === -1 ? rows : rows.slice(0, end);
}

/** Cuts one page out of all rows, by number and by size. `rows` may be in any order; names compare by code unit. */
export function pageFrom<T>(rows: Iterable<T>, nameOf: (row: T) => string, { after, limit }: PageParams): Page<T> {
  const rest = [...rows]
    .filter((row) => after === undefined || nameOf(row) > after)
    .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  const page = fitting(rest, limit);
  const last = page.at(-1);
  return { rows: page, next: last === undefined || page.length === rest.length ? undefined : nameOf(last) };
}

/**
 * Building blocks of the configuration of agent and hub: values that come as text from a flag or a variable and as themselves from a
 * file, each with the sentence that `--help` and the reference page say of it.
 */
import * as v from 'valibot';

export interface Setting<S extends v.GenericSchema = v.GenericSchema> {
  readonly schema: S;
  /** One clause, for people. */
  readonly help: string;
  /**
   * `switch`: a flag that stands alone; `list`: a flag that may be given several times, or once with commas; `path`: a relative one, in a
   * flag or a variable, is taken from the working directory.
   */
  readonly kind: 'value' | 'switch' | 'list' | 'path';
}

export type Settings = Readonly<Record<string, Setting>>;

export function value<S extends v.GenericSchema>(schema: S, help: string): Setting<S> {
  return { schema, help, kind: 'value' };
}

export function path<S extends v.GenericSchema>(schema: S, help: string): Setting<S> {
  return { schema, help, kind: 'path' };
}

export function list<S extends v.GenericSchema>(schema: S, help: string): Setting<S> {
  return { schema, help, kind: 'list' };
}

/** Off unless said. */
export function toggle(help: string): Setting<typeof OffUnlessSaid> {
  return { schema: OffUnlessSaid, help, kind: 'switch' };
}

const OffUnlessSaid = v.optional(
  v.union([
    v.boolean(),
    v.pipe(
      v.picklist(['true', 'false', '1', '0'], 'must be true or false'),
      v.transform((text) => text === 'true' || text === '1'),
    ),
  ]),
  false,
);

/** The entries of the object schema that takes exactly these settings. */
export function entriesOf<S extends Settings>(settings: S): { readonly [K in keyof S]: S[K]['schema'] } {
  // SAFETY: each key keeps its own setting's schema, which is what the mapped type says.
  return Object.fromEntries(Object.entries(settings).map(([key, { schema }]) => [key, schema])) as {
    readonly [K in keyof S]: S[K]['schema'];
  };
}

/** A whole number. */
export const whole = (min: number, max: number) =>
  v.pipe(
    v.union([v.number(), v.pipe(v.string(), v.regex(/^\d{1,12}$/, 'must be a whole number'), v.transform(Number))]),
    v.integer(),
    v.minValue(min),
    v.maxValue(max),
  );

/** Text. YAML takes ports, uids and whatever else has only digits for numbers. */
export const written = v.union([v.string(), v.pipe(v.number(), v.safeInteger(), v.transform(String))], 'must be text');

/** A list, or its entries with commas between. */
export const listOf = <S extends v.GenericSchema<string>>(entry: S, maxLength = 256) =>
  v.pipe(
    v.union(
      [v.array(written), v.pipe(written, v.transform(splitList))],
      'must be a list of texts, or one text with commas between',
    ),
    v.array(entry),
    v.maxLength(maxLength),
  );

export function splitList(text: string): string[] {
  return text.split(',').flatMap((entry) => (entry.trim() === '' ? [] : [entry.trim()]));
}

/** `127.0.0.1:7080`, `[::1]:7080` or `localhost:0`, taken apart; undefined for anything else. */
export function parseAddress(text: string): { host: string; port: number } | undefined {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  return host === undefined || !(port <= 65_535) ? undefined : { host, port };
}

/** `stateDir` is `--state-dir`. */
export function flagName(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `stateDir` with the prefix `FAIRLEAD_` is `FAIRLEAD_STATE_DIR`. */
export function variableName(prefix: string, key: string): string {
  return `${prefix}${flagName(key).replaceAll('-', '_').toUpperCase()}`;
}

/** The default of a setting as its schema states it; undefined where it has none, or works it out from others. */
export function defaultOf({ schema }: Setting): unknown {
  return 'default' in schema ? schema.default : undefined;
}

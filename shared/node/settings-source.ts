/**
 * Where settings come from: flags win over variables, variables over the file, the file over the defaults. Flags and variables are made
 * from the settings' keys, so that none can be forgotten. Empty variables count as not set. The file is YAML, of which JSON is a part.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type * as Yaml from 'yaml';
import { FairleadError } from '../errors.ts';
import { defaultOf, flagName, type Setting, type Settings, variableName } from '../settings.ts';

export interface SettingsSource {
  readonly settings: Settings;
  /** Of the variables' names. */
  readonly prefix: string;
}

export interface GivenSettings {
  readonly help: boolean;
  readonly printConfig: boolean;
  /** What was given, not validated yet. */
  readonly values: Readonly<Record<string, unknown>>;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** @throws FairleadError INVALID_PARAMS for a flag that is unknown, or a file that cannot be read or is no mapping. */
export function readSettings(source: SettingsSource, argv: readonly string[], env: Environment): GivenSettings {
  const flags = parseFlags(source.settings, argv);
  const file = flags['config'] ?? emptyAsUnset(env[`${source.prefix}CONFIG`]);
  const values: Record<string, unknown> = typeof file === 'string' ? readConfigFile(file) : {};
  for (const [key, { kind }] of Object.entries(source.settings)) {
    const given = flags[flagName(key)] ?? emptyAsUnset(env[variableName(source.prefix, key)]);
    if (given === undefined) continue;
    if (kind === 'path' && typeof given === 'string') values[key] = resolve(given);
    else values[key] = Array.isArray(given) ? given.join(',') : given;
  }
  return { help: flags['help'] === true, printConfig: flags['print-config'] === true, values };
}

/** One line a flag: its name, what it is for, its default. */
export function settingsUsage({ settings }: SettingsSource): string {
  const rows = Object.entries(settings).map(([key, setting]) => [flagText(key, setting), setting] as const);
  const width = Math.max(...rows.map(([flag]) => flag.length));
  return rows.map(([flag, setting]) => `  ${flag.padEnd(width)}  ${setting.help}${defaultText(setting)}\n`).join('');
}

function flagText(key: string, { kind }: Setting): string {
  return `--${flagName(key)}${kind === 'switch' ? '' : ' VALUE'}`;
}

function defaultText(setting: Setting): string {
  const value = defaultOf(setting);
  const shown = Array.isArray(value) ? value.join(',') : value;
  return typeof shown === 'number' || (typeof shown === 'string' && shown !== '') ? ` (default ${shown})` : '';
}

type FlagValue = string | boolean | readonly (string | boolean)[] | undefined;

function parseFlags(settings: Settings, argv: readonly string[]): Readonly<Record<string, FlagValue>> {
  const options = Object.fromEntries(
    Object.entries(settings).map(([key, { kind }]) => [
      flagName(key),
      { type: kind === 'switch' ? ('boolean' as const) : ('string' as const), multiple: kind === 'list' },
    ]),
  );
  const own = { config: { type: 'string' }, 'print-config': { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } as const;
  try {
    return parseArgs({ args: [...argv], options: { ...options, ...own }, allowNegative: true, strict: true }).values;
  } catch (cause) {
    throw new FairleadError('INVALID_PARAMS', cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function readConfigFile(path: string): Record<string, unknown> {
  let content: unknown;
  try {
    const text = readFileSync(path, 'utf8');
    content = text.trimStart().startsWith('{') ? JSON.parse(text) : (parseYaml(text) ?? {});
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FairleadError('INVALID_PARAMS', `could not read configuration ${path}: ${why}`, { cause });
  }
  if (typeof content === 'object' && content !== null && !Array.isArray(content)) return { ...content };
  throw new FairleadError('INVALID_PARAMS', `configuration ${path} is no mapping of keys to values`);
}

/** Loaded only for a file that is no JSON: an agent that has none starts sooner. */
function parseYaml(text: string): unknown {
  // SAFETY: the module of that name; its CommonJS form can be loaded at once.
  const { parse } = createRequire(import.meta.url)('yaml') as typeof Yaml;
  return parse(text, { maxAliasCount: 16 });
}

function emptyAsUnset(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}

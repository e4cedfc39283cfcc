/**
 * Checks commands against recorded `query-qmp-schema` answers (QEMU: "Client JSON Protocol introspection"): the command exists, every
 * argument is known, none is missing, and values have the type that the schema wants, down to nested objects and unions.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import * as v from 'valibot';

const Member = v.object({ name: v.string(), type: v.string(), default: v.optional(v.unknown()) });

const Entry = v.variant('meta-type', [
  v.object({ 'meta-type': v.literal('builtin'), name: v.string(), 'json-type': v.string() }),
  v.object({ 'meta-type': v.literal('enum'), name: v.string(), values: v.array(v.string()) }),
  v.object({ 'meta-type': v.literal('array'), name: v.string(), 'element-type': v.string() }),
  v.object({ 'meta-type': v.literal('alternate'), name: v.string(), members: v.array(v.object({ type: v.string() })) }),
  v.object({
    'meta-type': v.literal('object'),
    name: v.string(),
    members: v.array(Member),
    tag: v.optional(v.string()),
    variants: v.optional(v.array(v.object({ case: v.string(), type: v.string() })), []),
  }),
  v.object({
    'meta-type': v.literal('command'),
    name: v.string(),
    'arg-type': v.string(),
    'allow-oob': v.optional(v.boolean(), false),
  }),
  v.object({ 'meta-type': v.literal('event'), name: v.string(), 'arg-type': v.string() }),
]);
type Entry = v.InferOutput<typeof Entry>;
type ObjectEntry = Extract<Entry, { 'meta-type': 'object' }>;

const Recording = v.object({ version: v.object({ major: v.number(), minor: v.number() }), schema: v.array(Entry) });

const DIRECTORY = join(import.meta.dirname, 'qmp-schema');

export class QmpSchema {
  readonly version: string;
  readonly #entries: ReadonlyMap<string, Entry>;

  constructor(recording: unknown) {
    const { version, schema } = v.parse(Recording, recording);
    this.version = `${version.major}.${version.minor}`;
    this.#entries = new Map(schema.map((entry) => [entry.name, entry]));
  }

  get commands(): string[] {
    return this.#all('command').map(({ name }) => name);
  }

  get events(): string[] {
    return this.#all('event').map(({ name }) => name);
  }

  get outOfBandCommands(): string[] {
    return this.#all('command').flatMap((command) => (command['allow-oob'] ? [command.name] : []));
  }

  /** What is wrong with a command, each as `path: reason`; empty when nothing is. */
  problemsOf(command: string, args: object = {}): string[] {
    const entry = this.#entries.get(command);
    if (entry?.['meta-type'] !== 'command') return [`${command}: no such command`];
    return [...this.#check(command, entry['arg-type'], args)];
  }

  #all<Kind extends Entry['meta-type']>(kind: Kind): Extract<Entry, { 'meta-type': Kind }>[] {
    const ofKind = (entry: Entry): entry is Extract<Entry, { 'meta-type': Kind }> => entry['meta-type'] === kind;
    return [...this.#entries.values()].filter(ofKind);
  }

  *#check(path: string, type: string, value: unknown): Generator<string> {
    const entry = this.#entries.get(type);
    switch (entry?.['meta-type']) {
      case 'builtin':
        if (!isJsonType(entry['json-type'], value)) yield `${path}: is no ${entry['json-type']}`;
        return;
      case 'enum':
        if (typeof value !== 'string' || !entry.values.includes(value))
          yield `${path}: ${JSON.stringify(value)} is no value of it`;
        return;
      case 'array':
        if (!Array.isArray(value)) return yield `${path}: is no array`;
        for (const [index, element] of value.entries()) yield* this.#check(`${path}[${index}]`, entry['element-type'], element);
        return;
      case 'alternate':
        if (entry.members.some(({ type: member }) => this.#check(path, member, value).next().done === true)) return;
        return yield `${path}: fits no alternative`;
      case 'object':
        if (!isObject(value)) return yield `${path}: is no object`;
        return yield* this.#checkObject(path, entry, value);
      default:
        throw new Error(`${path}: the recorded schema has no type '${type}'`);
    }
  }

  *#checkObject(path: string, entry: ObjectEntry, value: Readonly<Record<string, unknown>>): Generator<string> {
    const members = [...this.#membersFor(entry, value)];
    for (const key of Object.keys(value)) if (!members.some(({ name }) => name === key)) yield `${path}.${key}: is not known`;
    for (const member of members) {
      const given = value[member.name];
      // `default` is there, as null, for members that may be left out.
      if (given !== undefined) yield* this.#check(`${path}.${member.name}`, member.type, given);
      else if (!('default' in member)) yield `${path}.${member.name}: is missing`;
    }
  }

  /** Its own members, and those of the branch that its tag chooses. */
  *#membersFor(entry: ObjectEntry, value: Readonly<Record<string, unknown>>): Generator<v.InferOutput<typeof Member>> {
    yield* entry.members;
    if (entry.tag === undefined) return;
    const branch = entry.variants.find((variant) => variant.case === value[entry.tag ?? '']);
    const chosen = branch === undefined ? undefined : this.#entries.get(branch.type);
    if (chosen?.['meta-type'] === 'object') yield* this.#membersFor(chosen, value);
  }
}

/** All recordings, oldest QEMU first. */
export function recordedSchemas(): QmpSchema[] {
  const files = readdirSync(DIRECTORY).filter((name) => name.endsWith('.json.gz'));
  const schemas = files.map((file) => new QmpSchema(JSON.parse(gunzipSync(readFileSync(join(DIRECTORY, file))).toString())));
  return schemas.sort((a, b) => Number.parseFloat(a.version) - Number.parseFloat(b.version));
}

function isJsonType(type: string, value: unknown): boolean {
  if (type === 'value') return true;
  if (type === 'int') return Number.isSafeInteger(value);
  if (type === 'null') return value === null;
  return typeof value === type;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

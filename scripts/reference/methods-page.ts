/** docs/reference/methods.md out of the OpenRPC document. */
import type { JsonSchema } from '@valibot/to-json-schema';
import { EVERY_CALL_ERRORS, FORWARDED_CALL_ERRORS, JOURNALLED_CALL_ERRORS } from '../../shared/protocol/contract.ts';
import type { ErrorCode } from '../../shared/protocol/error-table.ts';
import type { ContentDescriptor, OpenRpcDocument, OpenRpcMethod } from '../../shared/protocol/openrpc.ts';
import { table, typeText } from './type-text.ts';

export function methodsPage(document: OpenRpcDocument): string {
  const methods = document.methods.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return [
    '# Methods',
    '',
    'Made from the method table by `node scripts/generate-docs.ts`; do not edit. How calls travel, deadlines and cancellation:',
    '[JSON-RPC conventions](json-rpc.md). Codes: [errors](errors.md). For programs: [openrpc.json](openrpc.json), or `rpc.discover`.',
    '',
    'Every call can also end with ' +
      codes(EVERY_CALL_ERRORS) +
      '; one that runs on a host also with ' +
      codes(FORWARDED_CALL_ERRORS) +
      '; and one that changes something there also with ' +
      codes(JOURNALLED_CALL_ERRORS) +
      ' ([the journal](journal.md)).',
    '',
    ...table(
      ['method', 'does', 'runs on', 'role', 'idempotent'],
      methods.map((method) => [
        `[${method.name}](#${anchor(method.name)})`,
        method.summary,
        method['x-target'],
        method['x-role'],
        yes(method['x-idempotent']),
      ]),
    ),
    '',
    ...methods.flatMap(methodSection),
    '# Notifications',
    '',
    'What one side of a line tells the other without being asked, and without an answer.',
    '',
    ...table(
      ['notification', 'from', 'says', 'params', 'since'],
      document['x-notifications'].map((entry) => [
        entry.name,
        entry['x-from'],
        entry.summary,
        typeText(entry.params),
        String(entry['x-since']),
      ]),
    ),
    '',
    '# Types',
    '',
    'A `?` marks a field that may be left out. Results may have fields beyond these in later versions; params with unknown fields are refused.',
    '',
    ...Object.entries(document.components.schemas).flatMap(([name, schema]) => typeSection(name, schema)),
  ]
    .join('\n')
    .trimEnd()
    .concat('\n');
}

function methodSection(method: OpenRpcMethod): string[] {
  const own = method.errors.map(({ $ref }) => $ref.split('/').at(-1) ?? '').filter((code) => !isCommon(code, method));
  return [
    `## ${method.name}`,
    '',
    `${method.summary}.`,
    '',
    ...(method['x-stream']
      ? ['Called by opening a stream on the line (wire protocol, OPEN); the params are the meta of its first frame.', '']
      : []),
    `Runs on: ${method['x-target']}. Role: ${method['x-role']}. Idempotent: ${yes(method['x-idempotent'])}. Since: ${method['x-since']}.`,
    '',
    ...(method.params.length === 0 ? ['No params.'] : table(['param', 'type', 'default', ''], method.params.flatMap(paramRows))),
    '',
    `Result: ${typeText(method.result.schema)}.`,
    ...(method['x-progress'] === undefined ? [] : ['', `Progress: ${typeText(method['x-progress'])}.`]),
    ...(own.length === 0 ? [] : ['', `Errors: ${codes(own)}.`]),
    '',
  ];
}

function paramRows({ name, required, schema }: ContentDescriptor): string[][] {
  return fieldRows(name, schema, required === true);
}

function typeSection(name: string, schema: JsonSchema): string[] {
  const variants = variantsOf(schema);
  if (variants !== undefined) return [`## ${name}`, '', ...variantTables(variants), ''];
  const fields = Object.entries(schema.properties ?? {});
  const rows = fields.flatMap(([field, inner]) => fieldRows(field, inner, schema.required?.includes(field) === true));
  return [
    `## ${name}`,
    '',
    ...(rows.length === 0 ? [`${typeText(schema)}.`] : table(['field', 'type', 'default', ''], rows)),
    '',
  ];
}

/** The alternatives of a type that its field `type` tells apart. */
function variantsOf({ anyOf, oneOf }: JsonSchema): JsonSchema[] | undefined {
  const alternatives = (anyOf ?? oneOf ?? []).filter((one) => typeof one === 'object');
  const isVariant = alternatives.every(
    ({ properties }) => typeof properties?.['type'] === 'object' && 'const' in properties['type'],
  );
  return alternatives.length > 0 && isVariant ? alternatives : undefined;
}

/** What all of them have, and then for each type what it has beyond that. */
function variantTables(variants: readonly JsonSchema[]): string[] {
  const [first = {}] = variants;
  const isCommon = ([field, inner]: [string, unknown]): boolean =>
    variants.every(({ properties }) => JSON.stringify(properties?.[field]) === JSON.stringify(inner));
  const common = Object.entries(first.properties ?? {}).filter(isCommon);
  const names = new Set(common.map(([field]) => field));
  const rows = variants.map(({ properties = {} }) => {
    const own = Object.entries(properties).filter(([field]) => field !== 'type' && !names.has(field));
    return [typeText(properties['type']), own.map(([field, inner]) => `${field}: ${typeText(inner)}`).join('; ')];
  });
  const commonRows = common.flatMap(([field, inner]) => fieldRows(field, inner, first.required?.includes(field) === true));
  return [...table(['field', 'type', 'default', ''], commonRows), '', ...table(['type', 'and with it'], rows)];
}

/** One row a field, and below it one for each field of an object or of a list's objects: `disks[].path`. */
function fieldRows(name: string, field: JsonSchema | boolean, isRequired: boolean): string[][] {
  const schema = typeof field === 'object' ? field : {};
  const items = typeof schema.items === 'object' && !Array.isArray(schema.items) ? schema.items : undefined;
  const nested = Object.entries((items ?? schema).properties ?? {});
  const type =
    nested.length === 0
      ? typeText(schema)
      : typeText(items === undefined ? { type: 'object' } : { ...schema, items: { type: 'object' } });
  const required = (items ?? schema).required ?? [];
  return [
    [`\`${name}\``, type, defaultText(schema, isRequired), schema.description ?? ''],
    ...nested.flatMap(([key, inner]) =>
      fieldRows(`${name}${items === undefined ? '' : '[]'}.${key}`, inner, required.includes(key)),
    ),
  ];
}

function defaultText(schema: JsonSchema, isRequired: boolean): string {
  if (schema.default !== undefined) return `\`${JSON.stringify(schema.default)}\``;
  return isRequired ? 'required' : '';
}

function isCommon(code: string, method: OpenRpcMethod): boolean {
  const common: readonly string[] =
    method['x-target'] === 'agent'
      ? [...EVERY_CALL_ERRORS, ...FORWARDED_CALL_ERRORS, ...(method['x-role'] === 'viewer' ? [] : JOURNALLED_CALL_ERRORS)]
      : EVERY_CALL_ERRORS;
  return common.includes(code);
}

function codes(list: readonly (ErrorCode | string)[]): string {
  return list.map((code) => `[${code}](errors.md#${code.toLowerCase()})`).join(', ');
}

function yes(value: boolean): string {
  return value ? 'yes' : 'no';
}

/** As the usual renderers make it of a heading: lower case, dots left out. */
function anchor(heading: string): string {
  return heading.toLowerCase().replaceAll('.', '');
}

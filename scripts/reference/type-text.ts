/** A JSON schema in a few words, for a cell of a table: `integer, 1 to 1024`, `list of VmInfo, at most 26`. */
import type { JsonSchema } from '@valibot/to-json-schema';

type Part = JsonSchema | boolean | undefined;

export function typeText(schema: Part): string {
  if (typeof schema !== 'object') return 'any';
  if (schema.$ref !== undefined) {
    const name = schema.$ref.split('/').at(-1) ?? schema.$ref;
    return `[${name}](#${name.toLowerCase()})`;
  }
  if (schema.title !== undefined) return schema.title;
  if (schema.const !== undefined) return code(JSON.stringify(schema.const));
  if (schema.enum !== undefined) return schema.enum.map((value) => code(JSON.stringify(value))).join(' or ');
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives !== undefined) return alternatives.map(typeText).join(' or ');
  switch (schema.type) {
    case 'array':
      return `list of ${typeText(Array.isArray(schema.items) ? schema.items[0] : schema.items)}${upTo(schema.maxItems, 'entries')}`;
    case 'object':
      return objectText(schema);
    case 'string':
      return `text${upTo(schema.maxLength, 'characters')}${schema.pattern === undefined ? '' : `, ${code(`/${schema.pattern}/`)}`}`;
    case 'integer':
    case 'number':
      return `${schema.type}${range(schema)}`;
    default:
      return typeof schema.type === 'string' ? schema.type : 'any';
  }
}

/** Braces for a known shape, `map of` for free keys. */
function objectText(schema: JsonSchema): string {
  const fields = Object.entries(schema.properties ?? {});
  if (fields.length > 0) {
    const texts = fields.map(
      ([name, field]) => `${name}${schema.required?.includes(name) === true ? '' : '?'}: ${typeText(field)}`,
    );
    return `{ ${texts.join('; ')} }`;
  }
  if (typeof schema.additionalProperties === 'object') {
    return `map of ${typeText(schema.additionalProperties)}${upTo(schema.maxProperties, 'entries')}`;
  }
  return 'object';
}

function range({ minimum, maximum }: JsonSchema): string {
  const isBounded = maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER;
  if (minimum === undefined) return isBounded ? ` to ${maximum}` : '';
  return isBounded ? `, ${minimum} to ${maximum}` : `, from ${minimum}`;
}

function upTo(max: number | undefined, unit: string): string {
  return max === undefined ? '' : `, at most ${max} ${unit}`;
}

function code(text: string): string {
  return `\`${text}\``;
}

/** A row of a Markdown table. */
export function row(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`;
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return [row(head), row(head.map(() => '---')), ...rows.map(row)];
}

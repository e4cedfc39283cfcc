import { describe, expect, it } from 'vitest';
import { ERROR_TABLE } from '../../shared/protocol/error-table.ts';
import { METHODS } from '../../shared/protocol/methods.ts';
import { generateOpenRpc } from '../../shared/protocol/openrpc.ts';

const document = generateOpenRpc();
const method = (name: string) => document.methods.find((entry) => entry.name === name);

/** Every object of the document with the path to it. */
function* walk(value: unknown, path = '#'): Generator<readonly [string, Readonly<Record<string, unknown>>]> {
  if (typeof value !== 'object' || value === null) return;
  // SAFETY: a non-null object is readable by string keys.
  if (!Array.isArray(value)) yield [path, value as Record<string, unknown>];
  for (const [key, child] of Object.entries(value)) yield* walk(child, `${path}/${key}`);
}

function resolves(ref: unknown): boolean {
  const [root, ...keys] = String(ref).split('/');
  let at: unknown = root === '#' ? document : undefined;
  for (const key of keys)
    at = typeof at === 'object' && at !== null ? Object.entries(at).find(([name]) => name === key)?.[1] : undefined;
  return at !== undefined;
}

describe('the OpenRPC document', () => {
  it('has every method of the table once, with what the standard asks of each', () => {
    expect(document.methods.map((entry) => entry.name).toSorted()).toEqual(Object.keys(METHODS).toSorted());
    for (const entry of document.methods) {
      expect(entry.paramStructure).toBe('by-name');
      expect(entry.result.name).toBe('result');
      expect(new Set(entry.params.map((param) => param.name)).size).toBe(entry.params.length);
      for (const param of entry.params) expect(typeof param.schema).toBe('object');
    }
  });

  it('has no reference that leads nowhere', () => {
    const dangling = [...walk(document)]
      .filter(([, node]) => '$ref' in node && !resolves(node['$ref']))
      .map(([path, node]) => `${path} → ${String(node['$ref'])}`);
    expect(dangling).toEqual([]);
  });

  it('has only patterns that compile, also in the stricter form that validators use', () => {
    const patterns = [...walk(document.components.schemas), ...walk(document.methods)].flatMap(([, node]) =>
      typeof node['pattern'] === 'string' ? [node['pattern']] : [],
    );
    expect(patterns.length).toBeGreaterThan(10);
    for (const pattern of patterns) expect(() => new RegExp(pattern, 'u')).not.toThrow();
  });

  it('keeps bounds, patterns and defaults of params', () => {
    const spec = JSON.stringify(document.components.schemas['VmSpecInput']);
    for (const part of ['"maximum":1024', '"maxItems":26', '"minimum":16777216', '"maxLength":2048', '"default":"q35"', '{5}$"'])
      expect(spec).toContain(part);
    expect(document.components.schemas['Labels']).toMatchObject({ maxProperties: 64, propertyNames: { maxLength: 63 } });
  });

  it('says that a size may be text where it is written and is a number where it is read', () => {
    expect(document.components.schemas['VmSpecInput']).toMatchObject({
      properties: {
        memory: {
          properties: {
            bytes: { anyOf: [{ type: 'integer' }, { type: 'string' }], description: expect.stringContaining('512MiB') },
          },
        },
      },
    });
    expect(document.components.schemas['VmSpec']).toMatchObject({
      properties: { memory: { properties: { bytes: { type: 'integer', minimum: 16 * 1024 ** 2 } } } },
    });
  });

  it('refuses unknown fields in params and allows them in results', () => {
    expect(document.components.schemas['VmSpecInput']).toHaveProperty('additionalProperties', false);
    for (const name of ['VmSpec', 'VmInfo', 'HostInfo'])
      expect(document.components.schemas[name]).not.toHaveProperty('additionalProperties');
  });

  it('gives agent methods the `host` that operators may add, and hub methods none of it', () => {
    expect(method('vm.get')?.params).toMatchObject([
      { name: 'vm', required: true },
      { name: 'host', required: false },
    ]);
    expect(method('hub.info')?.params).toEqual([]);
  });

  it('lists params of every alternative, and the whole object beside them', () => {
    expect(method('vm.args')?.params.map(({ name, required }) => [name, required])).toEqual([
      ['vm', false],
      ['spec', false],
      ['host', false],
    ]);
    expect(method('vm.args')?.['x-params']).toHaveProperty('anyOf');
    expect(method('token.create')?.params.find(({ name }) => name === 'kind')).toMatchObject({ required: true });
    expect(method('vm.get')).not.toHaveProperty('x-params');
  });

  it('says of each method what calling it takes', () => {
    expect(method('vm.qmp')).toMatchObject({
      'x-role': 'admin',
      'x-target': 'agent',
      'x-idempotent': false,
      'x-since': 1,
      'x-stream': false,
    });
    expect(method('stream.open')).toHaveProperty('x-stream', true);
    expect(method('vm.events')).toHaveProperty('x-progress');
  });

  it('has the whole error table', () => {
    expect(Object.keys(document.components.errors)).toEqual(Object.keys(ERROR_TABLE));
    expect(document.components.errors.WRONG_STATE).toMatchObject({ code: 1202, data: { code: 'WRONG_STATE', retryable: false } });
  });

  it('fits one message with room to spare', () => {
    expect(JSON.stringify(document).length).toBeLessThan(200 * 1024);
  });
});

import { toJsonSchema } from '@valibot/to-json-schema';
import * as v from 'valibot';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import { ERROR_CODES, ERROR_TABLE, errorCodeOfRpc, isErrorCode } from '../../shared/protocol/error-table.ts';
import {
  isMethodName,
  METHODS,
  type MethodName,
  methodContract,
  type Params,
  type Result,
} from '../../shared/protocol/methods.ts';
import { splitHost } from '../../shared/protocol/operator.ts';
import { pageFrom } from '../../shared/protocol/paging.ts';
import { isSupportedVersion, knowsMethod, requireKnownMethod } from '../../shared/protocol/skew.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { CONTRACT_VERSION } from '../../shared/protocol/version.ts';
import type { VmInfo } from '../../shared/protocol/vm.ts';

// SAFETY: the keys of a literal table.
const NAMES = Object.keys(METHODS) as MethodName[];

describe('the error table', () => {
  it('gives each code a JSON-RPC number of its own, in the range for its kind', () => {
    const numbers = ERROR_CODES.map((code) => ERROR_TABLE[code].rpc);
    expect(new Set(numbers).size).toBe(numbers.length);
    const standard = numbers.filter((number) => number < 0);
    expect(standard).toEqual([-32700, -32600, -32601, -32602, -32603]);
    expect(numbers.filter((number) => number >= 0).every((number) => Number.isInteger(number) && number >= 1000)).toBe(true);
  });

  it.each(ERROR_CODES)('gives %s a documented exit code and an HTTP status of failure', (code) => {
    const { exit, http, meaning } = ERROR_TABLE[code];
    expect([1, 2, 3, 4, 5, 124, 130]).toContain(exit);
    expect(http).toBeGreaterThanOrEqual(400);
    expect(http).toBeLessThan(600);
    expect(meaning).not.toBe('');
  });

  it('finds a code by its number and knows nothing else', () => {
    for (const code of ERROR_CODES) expect(errorCodeOfRpc(ERROR_TABLE[code].rpc)).toBe(code);
    expect(errorCodeOfRpc(-32099)).toBeUndefined();
    expect(isErrorCode('toString')).toBe(false);
    expect(isErrorCode(1000)).toBe(false);
  });

  it('turns whatever was thrown into an error with a code', () => {
    const known = new FairleadError('CONFLICT', 'x');
    expect(toFairleadError(known)).toBe(known);
    expect(toFairleadError(null)).toMatchObject({ code: 'INTERNAL', message: 'null' });
    expect(toFairleadError(new Error('x'), 'CONNECT_FAILED')).toMatchObject({ code: 'CONNECT_FAILED', message: 'x' });
  });
});

describe('the method table', () => {
  it.each(NAMES)('%s has a name of the form noun.verb, a summary and codes that are not repeated', (name) => {
    const { summary, errors, since } = methodContract(name);
    expect(name).toMatch(/^[a-z]+\.[a-z][a-zA-Z]*$/);
    expect(summary).toMatch(/^[A-Z].*[^.]$/);
    expect(new Set(errors).size).toBe(errors.length);
    expect(since).toBeLessThanOrEqual(CONTRACT_VERSION);
  });

  it.each(NAMES)('%s takes an object of named params and refuses unknown ones', (name) => {
    const { issues = [] } = v.safeParse(methodContract(name).params, { kind: 'enrol', thereIsNoSuchField: 1 });
    expect(issues.length).toBeGreaterThan(0);
    expect(v.safeParse(methodContract(name).params, 'text').success).toBe(false);
  });

  it.each(NAMES)('%s leaves `_meta` to the line', (name) => {
    expect(() => parseParams(name, { _meta: {} })).toThrow(FairleadError);
  });

  it.each(NAMES.filter((name) => methodContract(name).target === 'agent'))('%s leaves `host` to the operator', (name) => {
    expect(JSON.stringify(toJsonSchema(methodContract(name).params, { typeMode: 'input' }))).not.toContain('"host":');
  });

  it('is asked only for its own names', () => {
    expect(isMethodName('vm.start')).toBe(true);
    expect(isMethodName('constructor')).toBe(false);
  });
});

describe("an operator's call", () => {
  it('of an agent method is split into host and params', () => {
    expect(splitHost('vm.get', { vm: 'web', host: 'edge-1' })).toEqual({ host: 'edge-1', params: { vm: 'web' } });
    expect(splitHost('vm.get', { vm: 'web' })).toEqual({ host: undefined, params: { vm: 'web' } });
    expect(() => splitHost('vm.get', { host: 'No Host' })).toThrow(/^params\.host: must be lower-case/);
  });

  it('of a hub method keeps its own `host`', () => {
    expect(splitHost('host.get', { host: 'edge-1' })).toEqual({ host: undefined, params: { host: 'edge-1' } });
  });
});

describe('version skew', () => {
  it('asks a peer only for what its version has', () => {
    expect(knowsMethod(CONTRACT_VERSION, 'vm.start')).toBe(true);
    expect(knowsMethod(0, 'vm.start')).toBe(false);
    expect(() => requireKnownMethod(0, 'vm.start', 'host edge-1')).toThrow(
      'host edge-1 speaks contract version 0 and vm.start came with version 1; upgrade it',
    );
    expect(() => requireKnownMethod(1, 'vm.start', 'host edge-1')).not.toThrow();
  });

  it('speaks with newer peers and not with those before the supported range', () => {
    expect(isSupportedVersion(CONTRACT_VERSION + 5)).toBe(true);
    expect(isSupportedVersion(0)).toBe(false);
    expect(isSupportedVersion(1.5)).toBe(false);
  });
});

describe('a page', () => {
  const rows = ['c', 'a', 'd', 'b'].map((name) => ({ name }));
  const nameOf = (row: { name: string }) => row.name;

  it('holds the rows after a name, in order, and says where the next one starts', () => {
    expect(pageFrom(rows, nameOf, { limit: 2 })).toEqual({ rows: [{ name: 'a' }, { name: 'b' }], next: 'b' });
    expect(pageFrom(rows, nameOf, { after: 'b', limit: 2 })).toEqual({ rows: [{ name: 'c' }, { name: 'd' }], next: undefined });
    expect(pageFrom([], nameOf, { limit: 2 })).toEqual({ rows: [], next: undefined });
  });

  it('ends early where rows are long, but never before its first', () => {
    const long = ['a', 'b', 'c'].map((name) => ({ name, text: 'x'.repeat(100_000) }));
    expect(pageFrom(long, nameOf, { limit: 1000 })).toMatchObject({ rows: [{ name: 'a' }], next: 'a' });
    expect(pageFrom([{ name: 'a', text: 'x'.repeat(300_000) }], nameOf, { limit: 1000 })).toMatchObject({
      rows: [{ name: 'a' }],
      next: undefined,
    });
  });
});

describe('the types of the table', () => {
  it('are those of its schemas', () => {
    expectTypeOf<Params<'vm.stop'>>().toEqualTypeOf<{ vm: string; graceMs: number }>();
    expectTypeOf<Result<'vm.get'>>().toEqualTypeOf<VmInfo>();
  });
});

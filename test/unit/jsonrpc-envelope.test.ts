import { describe, expect, it } from 'vitest';
import { FairleadError } from '../../shared/errors.ts';
import { exceedsBytes, readMessage } from '../../shared/jsonrpc/envelope.ts';
import { isTraceparent, splitMeta } from '../../shared/jsonrpc/meta.ts';
import { fromWireError, toWireError } from '../../shared/jsonrpc/wire-error.ts';
import { PeerPair, rejection, turn } from '../support/peer-pair.ts';

const MAX_BYTES = 256 * 1024;
const read = (text: string) => readMessage(text, MAX_BYTES);

describe('a message', () => {
  it.each([
    ['request', '{"jsonrpc":"2.0","id":1,"method":"a.b","params":{"x":1}}'],
    ['request', '{"jsonrpc":"2.0","id":"rpc#00001","method":"a.b"}'],
    ['notification', '{"jsonrpc":"2.0","method":"a.b","params":{}}'],
    ['result', '{"jsonrpc":"2.0","id":1,"result":null}'],
    ['error', '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}'],
  ])('that is a %s is read', (kind, text) => {
    expect(read(text).kind).toBe(kind);
  });

  it.each([
    ['is no JSON', '{"jsonrpc":', 'PARSE_ERROR', 'the message is no JSON'],
    ['is empty', '', 'PARSE_ERROR', 'the message is no JSON'],
    [
      'is a batch',
      '[{"jsonrpc":"2.0","id":1,"method":"a"}]',
      'INVALID_REQUEST',
      'batch arrays are not taken; send one message each',
    ],
    ['is a number', '7', 'INVALID_REQUEST', 'the message is no JSON-RPC object'],
    ['is null', 'null', 'INVALID_REQUEST', 'the message is no JSON-RPC object'],
    [
      'is an empty object',
      '{}',
      'PROTOCOL_ERROR',
      'response.jsonrpc: is required; response.id: is required; response.result: is required',
    ],
    ['has no method name', '{"jsonrpc":"2.0","method":""}', 'INVALID_REQUEST', 'notification.method: must not be empty'],
    ['is of another version', '{"jsonrpc":"1.0","method":"a"}', 'INVALID_REQUEST', 'notification.jsonrpc: must be "2.0"'],
    [
      'has result and error',
      '{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":""}}',
      'PROTOCOL_ERROR',
      'response.result: is not a known field',
    ],
    [
      'has an error that is text',
      '{"jsonrpc":"2.0","id":1,"error":"bad"}',
      'PROTOCOL_ERROR',
      'response.error: must be an object, not text',
    ],
  ])('that %s is refused and says why', (_what, text, code, message) => {
    const refused = read(text);
    expect(refused).toMatchObject({ kind: 'invalid', error: { code, message } });
    expect(refused).not.toHaveProperty('request');
  });

  it.each([
    ['params by position', '"params":[1,2]', 'request.params: must be an object (params by name)'],
    ['params that are null', '"params":null', 'request.params: must be an object (params by name)'],
    ['a field of its own', '"extra":1', 'request.extra: is not a known field'],
  ])('with %s is a request that can be answered', (_what, field, message) => {
    const refused = read(`{"jsonrpc":"2.0","id":5,"method":"a.b",${field}}`);
    expect(refused).toMatchObject({ kind: 'invalid', request: 5, error: { code: 'INVALID_REQUEST', message } });
  });

  it.each([null, 1.5, true, {}, '', 'x'.repeat(65), 2 ** 60])('with the id %j is no request', (id) => {
    const refused = read(JSON.stringify({ jsonrpc: '2.0', id, method: 'a.b' }));
    expect(refused).toMatchObject({ kind: 'invalid', error: { code: 'INVALID_REQUEST' } });
    expect(refused).not.toHaveProperty('request');
  });

  it('is bounded in bytes of UTF-8', () => {
    expect(exceedsBytes('€'.repeat(100), 300)).toBe(false);
    expect(exceedsBytes('€'.repeat(100), 299)).toBe(true);
    expect(exceedsBytes('x'.repeat(300), 300)).toBe(false);
    expect(exceedsBytes('x'.repeat(301), 300)).toBe(true);
    expect(read(`"${'x'.repeat(MAX_BYTES)}"`)).toMatchObject({ kind: 'invalid', error: { code: 'PROTOCOL_ERROR' } });
  });

  it('nested so deep that writing it again would overflow the stack is refused, request or answer', () => {
    const bomb = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    expect(read(`{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":${bomb}}}`)).toMatchObject({
      request: 1,
      error: { code: 'INVALID_REQUEST' },
    });
    expect(read(`{"jsonrpc":"2.0","id":1,"result":${bomb}}`)).toMatchObject({ kind: 'invalid', response: 1 });
  });

  it('with more values than any spec has is refused when it is a request', () => {
    const many = `[${'0,'.repeat(20_000)}0]`;
    expect(read(`{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":${many}}}`)).toMatchObject({
      request: 1,
      error: { code: 'INVALID_REQUEST' },
    });
    expect(read(`{"jsonrpc":"2.0","id":1,"result":${many}}`).kind).toBe('result');
  });

  it('cannot reach a prototype', () => {
    const message = read('{"jsonrpc":"2.0","id":1,"method":"a","params":{"__proto__":{"isAdmin":true}}}');
    expect(message.kind).toBe('request');
    expect(message).not.toHaveProperty('params.isAdmin');
    expect({}).not.toHaveProperty('isAdmin');
  });
});

describe('a peer that gets garbage', () => {
  it('tells the owner of the line and never throws', () => {
    const pair = new PeerPair();
    for (const text of ['garbage', '[]', '{}', '"x"', '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"eh?"}}']) {
      pair.caller.receive(text);
    }
    expect(pair.protocolErrors.map((error) => error.code)).toEqual([
      'PARSE_ERROR',
      'INVALID_REQUEST',
      'PROTOCOL_ERROR',
      'INVALID_REQUEST',
      'PROTOCOL_ERROR',
    ]);
    expect(pair.sent).toEqual([]);
  });

  it('answers a request that it can tell is one', () => {
    const pair = new PeerPair();
    pair.callee.receive('{"jsonrpc":"2.0","id":5,"method":"a.b","params":[]}');
    expect(pair.sent[0]?.message).toMatchObject({ id: 5, error: { code: -32600 } });
    expect(pair.protocolErrors).toEqual([]);
  });

  it('rejects the call that a broken answer was for', async () => {
    const pair = new PeerPair();
    const call = rejection(pair.caller.call('a.b', {}));
    pair.caller.receive('{"jsonrpc":"2.0","id":"rpc#00001"}');
    expect((await call).code).toBe('PROTOCOL_ERROR');
    expect(pair.protocolErrors).toHaveLength(1);
  });
});

describe('_meta', () => {
  it('is taken out of the params; what is for this hop only is not in the rest', () => {
    const { params, meta } = splitMeta({ vm: 'web', _meta: { timeoutMs: 5, progressToken: 7, commandId: 'c1' } });
    expect(params).toEqual({ vm: 'web' });
    expect(meta).toEqual({ timeoutMs: 5, progressToken: 7, trace: {}, rest: { commandId: 'c1' } });
  });

  it.each([
    [{ timeoutMs: 'soon' }, 'params._meta.timeoutMs: must be a number, not text'],
    [{ timeoutMs: 2 ** 31 }, 'params._meta.timeoutMs: must be at most 2147483647'],
    [{ progressToken: {} }, 'params._meta.progressToken: must be one of string, number, not an object'],
    ['text', 'params._meta: must be an object, not text'],
  ])('%j is refused with the offending field', async (_meta, message) => {
    const pair = new PeerPair();
    pair.callee.receive(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'a.b', params: { _meta } }));
    await turn();
    expect(pair.sent[0]?.message).toMatchObject({ id: 1, error: { code: -32602, message } });
  });

  const trace = `${'a'.repeat(32)}-${'b'.repeat(16)}`;
  it.each([
    ['of version 00', `00-${trace}-01`, true],
    ['of a later version with more fields', `cc-${trace}-01-what`, true],
    ['of version 00 with more fields', `00-${trace}-01-what`, false],
    ['of version ff', `ff-${trace}-01`, false],
    ['with a trace id of zeros', `00-${'0'.repeat(32)}-${'b'.repeat(16)}-01`, false],
    ['with a parent id of zeros', `00-${'a'.repeat(32)}-${'0'.repeat(16)}-01`, false],
    ['in upper case', `00-${trace.toUpperCase()}-01`, false],
    ['that is too short', `00-${trace}`, false],
    ['that is a number', 7, false],
  ])('a traceparent %s is judged as W3C Trace Context says', (_what, value, valid) => {
    expect(isTraceparent(value)).toBe(valid);
  });

  it('with a malformed traceparent is taken without it and its tracestate', () => {
    expect(splitMeta({ _meta: { traceparent: 'zz', tracestate: 'a=1', baggage: 'b=2' } }).meta.trace).toEqual({ baggage: 'b=2' });
    expect(splitMeta({ _meta: { traceparent: `00-${trace}-01`, tracestate: 'x'.repeat(513) } }).meta.trace).toEqual({
      traceparent: `00-${trace}-01`,
    });
  });
});

describe('an error on the wire', () => {
  it('comes back with code, message and details', () => {
    const error = new FairleadError('CONFLICT', 'vm web exists already', { details: { vm: 'web' } });
    expect(fromWireError(toWireError(error))).toMatchObject({ code: 'CONFLICT', message: error.message, details: { vm: 'web' } });
  });

  it('of another implementation is known by its number', () => {
    expect(fromWireError({ code: -32601, message: 'Method not found' }).code).toBe('METHOD_NOT_FOUND');
    expect(fromWireError({ code: -32601, message: 'x', data: ['odd'] }).code).toBe('METHOD_NOT_FOUND');
    expect(fromWireError({ code: 1202, message: 'x', data: { code: 'constructor' } }).code).toBe('WRONG_STATE');
  });

  it('has a message of bounded length', () => {
    expect(toWireError(new FairleadError('INTERNAL', 'x'.repeat(100_000))).message).toHaveLength(4096);
    expect(fromWireError({ code: 1, message: 'x'.repeat(100_000) }).message).toHaveLength(4096);
  });
});

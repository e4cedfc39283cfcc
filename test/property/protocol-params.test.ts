/** What a hub or an operator may send as the params of a method, meant or not. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isFairleadError } from '../../shared/errors.ts';
import { printable } from '../../shared/printable.ts';
import { METHODS, type MethodName } from '../../shared/protocol/methods.ts';
import { parseParams } from '../../shared/protocol/validate.ts';

// SAFETY: the keys of METHODS are the names.
const NAMES = Object.keys(METHODS) as MethodName[];
const MAX_MESSAGE_CHARS = 4_000;

/** Names of fields that exist somewhere, so that some of what is made gets past the first check, and some that do harm elsewhere. */
const key = fc.oneof(
  fc.constantFrom('vm', 'spec', 'name', 'id', 'disk', 'network', 'path', 'uri', 'timeoutMs', 'graceMs', 'since', 'limit', 'args'),
  fc.constantFrom(
    'memory',
    'bytes',
    'boot',
    'kernel',
    'disks',
    'networks',
    'type',
    'media',
    'devices',
    'labels',
    'execute',
    'arguments',
  ),
  fc.constantFrom('__proto__', 'constructor', 'toString', 'hasOwnProperty', ''),
  fc.string({ maxLength: 8 }),
);
const leaf = fc.oneof(
  fc.constantFrom(
    'web',
    '512MiB',
    '/k',
    'q35',
    'tap',
    'user',
    'disk',
    'cdrom',
    'unix:/x',
    'exec:sh',
    -1,
    0,
    1,
    2 ** 53,
    1e300,
    true,
    null,
  ),
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.double(),
);
const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    leaf,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(key, tie('value'), { maxKeys: 6 }),
  ),
}));
/** As it comes off the wire. */
const params = value.map((made): unknown => JSON.parse(JSON.stringify(made) ?? 'null'));

describe.each(NAMES)('%s', (method) => {
  test('params of any shape are taken or refused with INVALID_PARAMS', () => {
    fc.assert(
      fc.property(params, (sent) => {
        const before = JSON.stringify(sent);
        const outcome = outcomeOf(() => parseParams(method, sent));
        expect(JSON.stringify(sent), 'what was sent is left as it is').toBe(before);
        if (outcome.error === undefined) return;
        if (!isFairleadError(outcome.error)) throw outcome.error;
        expect(outcome.error.code).toBe('INVALID_PARAMS');
        expect(outcome.error.message.length).toBeLessThan(MAX_MESSAGE_CHARS);
        expect(outcome.error.message, 'it can be shown on a terminal').toBe(printable(outcome.error.message));
      }),
      { numRuns: 200 },
    );
  });
});

function outcomeOf(act: () => unknown): { readonly error?: unknown } {
  try {
    act();
    return {};
  } catch (error) {
    return { error };
  }
}

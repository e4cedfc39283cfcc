import { describe, expect, test } from 'vitest';
import { readMessage } from '../../agent/qmp/messages.ts';

describe('reading a QMP message', () => {
  test('knows a return, whatever it holds', () => {
    expect(readMessage({ return: [1, 'two'], id: 'qmp#00001' })).toEqual({ kind: 'return', id: 'qmp#00001', value: [1, 'two'] });
    expect(readMessage({ return: {} })).toEqual({ kind: 'return', id: undefined, value: {} });
  });

  test('knows an error, with and without id', () => {
    const error = { class: 'GenericError', desc: 'JSON parse error, expecting value' };
    expect(readMessage({ error, id: 'x' })).toEqual({ kind: 'error', id: 'x', error });
    expect(readMessage({ error })).toEqual({ kind: 'error', id: undefined, error });
  });

  test('knows an event, with and without data', () => {
    const timestamp = { seconds: -1, microseconds: -1 };
    expect(readMessage({ event: 'STOP', timestamp })).toEqual({ kind: 'event', event: { name: 'STOP', data: {}, timestamp } });
    expect(readMessage({ event: 'RESET', data: { guest: true }, timestamp })).toMatchObject({ event: { data: { guest: true } } });
  });

  test('knows a greeting, and ignores members that it does not know', () => {
    const version = { qemu: { micro: 2, minor: 0, major: 10, nano: 1 }, package: 'Debian' };
    expect(readMessage({ QMP: { version, capabilities: ['oob', 'later'], more: 1 } })).toEqual({
      kind: 'greeting',
      greeting: { version: { major: 10, minor: 0, micro: 2 }, capabilities: ['oob', 'later'], package: 'Debian' },
    });
  });

  test.each([
    ['a number', 7, 'it is no object'],
    ['null', null, 'it is no object'],
    ['an empty object', {}, 'it is neither reply, event nor greeting'],
    ['an error that is text', { error: 'no' }, 'error: '],
    ['an error without class', { error: { desc: 'x' } }, 'error.class: '],
    ['an event without timestamp', { event: 'STOP' }, 'timestamp: '],
    ['an event with a number for a name', { event: 1, timestamp: { seconds: 1, microseconds: 1 } }, 'event: '],
    ['a greeting with a version that is text', { QMP: { version: '7.2', capabilities: [] } }, 'QMP.version: '],
  ])('refuses %s and says where', (_case, value, where) => {
    expect(() => readMessage(value)).toThrow(
      expect.objectContaining({ code: 'PROTOCOL_ERROR', message: expect.stringContaining(`QMP does not know: ${where}`) }),
    );
  });
});

import { describe, expect, test } from 'vitest';
import { QmpFramer } from '../../agent/qmp/framing.ts';

function frames(framer: QmpFramer, ...chunks: readonly (string | Buffer)[]): unknown[] {
  return chunks.flatMap((chunk) => [...framer.push(Buffer.from(chunk))]);
}

describe('the QMP framer', () => {
  test('takes messages that end in CRLF and in LF', () => {
    expect(frames(new QmpFramer(), '{"a":1}\r\n{"b":2}\n')).toEqual([{ a: 1 }, { b: 2 }]);
  });

  test('keeps a message until its end comes', () => {
    const framer = new QmpFramer();
    expect(frames(framer, '{"a"')).toEqual([]);
    expect(framer.pendingBytes).toBe(4);
    expect(frames(framer, ':1}\r\n{')).toEqual([{ a: 1 }]);
    expect(framer.pendingBytes).toBe(1);
  });

  test('joins a character whose bytes come apart', () => {
    const bytes = Buffer.from('{"a":"é€😀"}\n');
    const singles = Array.from(bytes, (byte) => Buffer.of(byte));
    expect(frames(new QmpFramer(), ...singles)).toEqual([{ a: 'é€😀' }]);
  });

  test('skips empty lines', () => {
    expect(frames(new QmpFramer(), '\r\n\n  \r\n{}\r\n')).toEqual([{}]);
  });

  test('delivers what came before a broken message', () => {
    const messages = new QmpFramer().push(Buffer.from('{"a":1}\nrubbish\n'));
    expect(messages.next().value).toEqual({ a: 1 });
    expect(() => messages.next()).toThrow(
      expect.objectContaining({ code: 'PROTOCOL_ERROR', message: 'the message is no JSON: "rubbish"' }),
    );
  });

  test('shows only the beginning of a long broken message', () => {
    expect(() => frames(new QmpFramer(), `${'x'.repeat(1000)}\n`)).toThrow(/^the message is no JSON: "x{80}…"$/u);
  });

  test.each([
    ['whole in one chunk', ['"123456789"\n']],
    ['split, with its end', ['"12345', '6789"\n']],
    ['split, its end not yet seen', ['"12345', '67890']],
  ])('refuses a message over the limit: %s', (_case, chunks) => {
    const framer = new QmpFramer({ maxMessageBytes: 10 });
    expect(() => frames(framer, ...chunks)).toThrow(
      expect.objectContaining({ code: 'PROTOCOL_ERROR', message: 'the message is longer than 10 bytes' }),
    );
  });

  test('takes a message of exactly the limit, again and again', () => {
    const framer = new QmpFramer({ maxMessageBytes: 10 });
    expect(frames(framer, '"1234', '5678"\n"1234', '5678"\n"12345678"\n')).toEqual(['12345678', '12345678', '12345678']);
  });

  test('needs time linear in the bytes, however small the chunks', () => {
    const costOf = (bytes: number): number => {
      const text = Buffer.from(`"${'x'.repeat(bytes)}"\n`);
      const framer = new QmpFramer();
      const start = process.cpuUsage().user;
      for (let at = 0; at < text.length; at += 512) for (const _ of framer.push(text.subarray(at, at + 512)));
      return process.cpuUsage().user - start;
    };
    costOf(1 << 20);
    // Sixteen times the bytes: a quadratic framer would take 256 times as long.
    expect(costOf(1 << 23)).toBeLessThan(Math.max(costOf(1 << 19), 1_000) * 100);
  });
});

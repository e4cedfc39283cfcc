/** What a guest agent sends, cut into replies; from here on nothing of it is longer than was agreed. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { shownOutput } from '../../agent/vm/guest-agent/exec-output.ts';
import { type ReplyPart, ReplyReader } from '../../agent/vm/guest-agent/reply-reader.ts';

const LIMITS = { maxStringBytes: 8, maxReplyBytes: 64 };

function read(bytes: string | Uint8Array, limits = LIMITS): ReplyPart[] {
  return new ReplyReader(limits).push(Buffer.from(bytes));
}

const reply = (text: string, cuts: [string, { droppedBytes: number; end: string }][] = []): ReplyPart => ({
  kind: 'reply',
  text,
  cuts: new Map(cuts),
});

describe('the reader of replies', () => {
  it('gives a reply a line, without empty ones', () => {
    expect(read('{"a":1}\n\r\n{"b":2}\r\n{"c"')).toEqual([reply('{"a":1}'), reply('{"b":2}')]);
  });

  it('tells a sentinel and throws away the half reply before it', () => {
    const bytes = Buffer.concat([Buffer.from('{"ret'), Buffer.from([0xff]), Buffer.from('{"return":5}\n')]);
    expect(read(bytes)).toEqual([{ kind: 'sentinel' }, reply('{"return":5}')]);
  });

  it('keeps the beginning of a long string and tells what is missing of which', () => {
    const parts = read('{"out-data":"AAAABBBBCCCCDD==","x":"AAAABBBB"}\n');
    expect(parts).toEqual([reply('{"out-data":"AAAABBBB","x":"AAAABBBB"}', [['out-data', { droppedBytes: 8, end: '==' }]])]);
  });

  it('is not led astray by quotes and backslashes in strings', () => {
    expect(read('{"a":"\\"x\\\\"}\n')).toEqual([reply('{"a":"\\"x\\\\"}')]);
    // What is kept never ends within an escape.
    expect(read(`{"a":"1234567\\"rest of it"}\n`)).toEqual([reply('{"a":"1234567"}', [['a', { droppedBytes: 11, end: 'it' }]])]);
  });

  it('tells a reply that is too long, and goes on after it', () => {
    const parts = read(`{"a":[${'1,'.repeat(40)}1]}\n{"b":2}\n`);
    expect(parts).toEqual([{ kind: 'overlong' }, reply('{"b":2}')]);
  });

  it('never waits for the end of a string that has none', () => {
    expect(read('{"a":"no end\n{"b":2}\n').at(-1)).toEqual(reply('{"b":2}'));
  });

  it('gives the same whatever pieces the bytes come in', () => {
    const bytes = fc.uint8Array({ maxLength: 200 }).map((some) => some.map((byte) => '{"a\\b:1}\n\xff,'.charCodeAt(byte % 12)));
    fc.assert(
      fc.property(bytes, fc.array(fc.nat(200), { maxLength: 8 }), (all, cuts) => {
        const reader = new ReplyReader(LIMITS);
        const ends = [...cuts.map((cut) => Math.min(cut, all.length)), all.length].toSorted((a, b) => a - b);
        const parts = ends.flatMap((end, index) => reader.push(all.subarray(ends[index - 1] ?? 0, end)));
        expect(parts).toEqual(read(all));
        const lengths = parts.map((part) => (part.kind === 'reply' ? part.text.length : 0));
        expect(Math.max(0, ...lengths)).toBeLessThanOrEqual(64);
      }),
    );
  });
});

describe('what is shown of an output', () => {
  /** As it goes through the reader, which keeps `kept` characters of base64. */
  function throughReader(output: Buffer, kept: number) {
    const reader = new ReplyReader({ maxStringBytes: kept, maxReplyBytes: 1024 ** 2 });
    const [part] = reader.push(Buffer.from(`{"out-data":"${output.toString('base64')}"}\n`));
    if (part?.kind !== 'reply') throw new Error('no reply');
    // SAFETY: as written above.
    const { 'out-data': base64 } = JSON.parse(part.text) as { 'out-data': string };
    return { base64, cut: part.cuts.get('out-data') };
  }

  it('counts what is cut to the byte, whatever the padding', () => {
    for (let length = 0; length < 40; length++) {
      const output = Buffer.alloc(length, 'x');
      for (const maxBytes of [0, 1, 11, 12]) {
        const shown = shownOutput({ ...throughReader(output, 16), encoding: 'base64', maxBytes });
        expect(Buffer.from(shown.text, 'base64')).toEqual(output.subarray(0, maxBytes));
        expect(shown.cutBytes).toBe(Math.max(0, length - maxBytes));
      }
    }
  });

  it('breaks no character of a text in two', () => {
    const output = Buffer.from('aé€😀');
    for (let maxBytes = 0; maxBytes <= output.length; maxBytes++) {
      const { text, cutBytes } = shownOutput({ ...throughReader(output, 64), encoding: 'utf8', maxBytes });
      expect('aé€😀'.startsWith(text)).toBe(true);
      expect(Buffer.byteLength(text) + cutBytes).toBe(output.length);
    }
  });

  it('cuts a text further when it would be too long as JSON', () => {
    const { text, cutBytes } = shownOutput({
      ...throughReader(Buffer.alloc(64 * 1024, 1), 100_000),
      encoding: 'utf8',
      maxBytes: 64 * 1024,
    });
    expect(JSON.stringify(text).length).toBeLessThanOrEqual(96 * 1024);
    expect(text.length + cutBytes).toBe(64 * 1024);
    expect(text.length).toBeGreaterThan(10_000);
  });
});

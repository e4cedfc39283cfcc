/**
 * Symptom: a host's labels, a guest's console or a hub's words could move the operator's cursor, rename the window or hide lines.
 * Cause: text from others went to the terminal as it came.
 */
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { describeFailure } from '../../cli/failure.ts';
import { GuestText } from '../../cli/guest-text.ts';
import { Output, type OutputFormat } from '../../cli/output.ts';
import { FairleadError } from '../../shared/errors.ts';

const EVIL = 'a\u001b]0;owned\u0007\u009b2J\r\u202eb\u007f';
/** All of Unicode's control characters but the line break. */
const CONTROL = /[^\n\P{Cc}]|[\u202a-\u202e\u2066-\u2069]/u;

async function printed(format: OutputFormat, use: (output: Output) => void): Promise<string> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  use(new Output({ stdin: new PassThrough(), stdout, stderr }, format));
  stdout.end();
  stderr.end();
  return (await text(stdout)) + (await text(stderr));
}

test.each<OutputFormat>(['table', 'json', 'jsonl', 'name'])(
  'nothing in a list or record as %s steers a terminal',
  async (format) => {
    const columns = [{ title: 'NAME', value: (row: { name: string }) => row.name }];
    const out = await printed(format, (output) => {
      output.list([{ name: EVIL }], columns, { name: (row) => row.name, empty: '' });
      output.record({ name: EVIL }, [['name', EVIL]], EVIL);
      output.say(EVIL);
    });
    expect(out).toContain('owned');
    expect(out).not.toMatch(CONTROL);
  },
);

test('JSON says the same as before', async () => {
  expect(JSON.parse(await printed('json', (output) => output.record({ name: EVIL }, [])))).toEqual({ name: EVIL });
});

test('nor does a failure', () => {
  const told = describeFailure(new FairleadError('GUEST_REFUSED', EVIL, { cause: new Error(`${EVIL}${EVIL}`) }));
  expect(told).toContain('owned');
  expect(told).not.toMatch(CONTROL);
  expect(describeFailure(new FairleadError('NOT_FOUND', 'a\nfairlead: all is well'))).toContain('\n  fairlead: all');
});

test('nor does the log of a guest, however its bytes come apart', () => {
  const written = Buffer.from(`\u001b[0;32mok\u001b[0m\tünd\r\n${EVIL}\u001b[2J\u001b[31`);
  const whole = new GuestText();
  const expected = whole.push(written) + whole.end();
  expect(expected).toMatch(/^ok\tünd\na\\u001b\]0;owned/);
  expect(expected.replaceAll('\t', '')).not.toMatch(CONTROL);
  for (let size = 1; size < 8; size++) {
    const pieces = new GuestText();
    let shown = '';
    for (let at = 0; at < written.length; at += size) shown += pieces.push(written.subarray(at, at + size));
    expect(shown + pieces.end()).toBe(expected);
  }
});

import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { age, humanBytes, Output, type OutputFormat } from '../../cli/output.ts';

const rows = [
  { name: 'web', cpus: 2 },
  { name: 'db-long-name', cpus: 16 },
];
const columns = [
  { title: 'VM', value: (row: { name: string }) => row.name },
  { title: 'CPUS', value: (row: { cpus: number }) => row.cpus },
  { title: 'NOTE', value: () => undefined },
];

function print(format: OutputFormat, use: (output: Output) => void): { stdout: string; stderr: string } {
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
  use(new Output(streams, format));
  return { stdout: String(streams.stdout.read() ?? ''), stderr: String(streams.stderr.read() ?? '') };
}

const list = (format: OutputFormat, data = rows): { stdout: string; stderr: string } =>
  print(format, (output) => output.list(data, columns, { name: (row) => row.name, empty: 'nothing yet' }));

describe('a list', () => {
  it('is an aligned table for people, with a dash for what is not there', () => {
    expect(list('table').stdout).toBe('VM            CPUS  NOTE\nweb           2     -\ndb-long-name  16    -\n');
  });

  it('is an array as json, one record a line as jsonl, and bare names as name', () => {
    expect(JSON.parse(list('json').stdout)).toEqual(rows);
    expect(list('jsonl').stdout).toBe('{"name":"web","cpus":2}\n{"name":"db-long-name","cpus":16}\n');
    expect(list('name').stdout).toBe('web\ndb-long-name\n');
  });

  it('that is empty prints its hint on standard error only, and an empty array as json', () => {
    expect(list('table', [])).toEqual({ stdout: '', stderr: 'nothing yet\n' });
    expect(list('json', [])).toEqual({ stdout: '[]\n', stderr: '' });
  });
});

describe('a record', () => {
  it('leaves out lines without a value in a table, and keeps the whole value as json', () => {
    const value = { name: 'web', pid: null };
    const show = (format: OutputFormat): string =>
      print(format, (output) =>
        output.record(value, [
          ['vm', 'web'],
          ['pid', undefined],
        ]),
      ).stdout;
    expect(show('table')).toBe('vm  web\n');
    expect(JSON.parse(show('json'))).toEqual(value);
  });
});

describe('units for people', () => {
  it.each([
    [0, '0B'],
    [1023, '1023B'],
    [1024, '1KiB'],
    [268_435_456, '256MiB'],
    [1_610_612_736, '1.5GiB'],
  ])('%d bytes are %s', (bytes, text) => expect(humanBytes(bytes)).toBe(text));

  it.each([
    [0, '0s'],
    [119_000, '119s'],
    [120_000, '2m'],
    [7_200_000, '2h'],
    [172_800_000, '2d'],
  ])('%d ms ago is %s', (ms, text) => expect(age(new Date(0).toISOString(), ms)).toBe(text));
});

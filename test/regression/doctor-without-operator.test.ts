/**
 * Symptom: `fairlead doctor` on a host, where no operator's token is, failed with "no hub is known" though the machine was fit.
 * Cause: a way to the hub was asked of every machine.
 */
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { Command } from 'commander';
import { expect, test } from 'vitest';
import { registerDoctor } from '../../cli/commands/doctor.ts';

test('a machine without a way to the hub as an operator is not unfit for that', async () => {
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
  const env = { FAIRLEAD_CONTEXT: '/nonexistent/context.json', PATH: process.env['PATH'] };
  const program = new Command().option('-o, --output <format>', '', 'json').option('--timeout <ms>', '', Number, 1000);
  registerDoctor(program, { env, streams, signal: new AbortController().signal, exitCode: 0 });

  await program.parseAsync(['doctor'], { from: 'user' });
  streams.stdout.end();

  const findings: unknown = JSON.parse(await text(streams.stdout));
  expect(findings).toContainEqual(expect.objectContaining({ check: 'hub', verdict: 'warn' }));
});

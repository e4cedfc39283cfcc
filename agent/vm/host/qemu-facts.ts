/**
 * What one QEMU binary is and can: asked of the binary itself over QMP, in a process that has no machine and ends at once (0.1 s).
 * Version numbers are for people; decisions are made on what the answers hold.
 */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import * as v from 'valibot';
import { FairleadError } from '../../../shared/errors.ts';
import type { QmpCommandName } from '../../qmp/commands.ts';
import type { ProcessUser } from '../confinement/process-user.ts';
import { lastLine } from '../logs/log-file.ts';
import { runProbe } from './probe-run.ts';

const PROBE_TIMEOUT_MS = 10_000;

export const QemuFacts = v.strictObject({
  version: v.string(),
  /** Names and aliases of the machine types: `q35` is the alias of `pc-q35-7.2`. */
  machines: v.array(v.strictObject({ name: v.string(), alias: v.optional(v.string()) })),
  /** Whether it was built with seccomp. */
  sandbox: v.boolean(),
});
export type QemuFacts = v.InferOutput<typeof QemuFacts>;

const PACKAGES: Partial<Record<NodeJS.Architecture, { program: string; hint: string }>> = {
  x64: { program: 'qemu-system-x86_64', hint: 'apt install qemu-system-x86, or dnf install qemu-system-x86-core' },
  arm64: { program: 'qemu-system-aarch64', hint: 'apt install qemu-system-arm, or dnf install qemu-system-aarch64-core' },
};

/**
 * The path of the host's QEMU: what is configured, else the architecture's program in PATH.
 * @throws FairleadError UNSUPPORTED with the package to install.
 */
export function findQemu({
  configured,
  arch = process.arch,
  folders = ['/usr/bin', '/usr/local/bin', ...(process.env['PATH'] ?? '').split(delimiter)],
}: {
  configured?: string | undefined;
  arch?: NodeJS.Architecture;
  folders?: readonly string[];
} = {}): string {
  if (configured !== undefined) {
    if (isExecutable(configured)) return configured;
    throw new FairleadError('UNSUPPORTED', `no QEMU at ${configured}, where the configuration says it is`);
  }
  const row = PACKAGES[arch];
  if (row === undefined) throw new FairleadError('UNSUPPORTED', `no QEMU is known for architecture ${arch}`);
  const found = folders.map((folder) => join(folder, row.program)).find(isExecutable);
  if (found !== undefined) return found;
  throw new FairleadError('UNSUPPORTED', `${row.program} was not found in PATH: ${row.hint}`);
}

/** @throws FairleadError PROCESS_FAILED when the binary does not answer as a QEMU does. */
export async function askQemu(binary: string, user?: ProcessUser): Promise<QemuFacts> {
  const argv = ['-M', 'none', '-S', '-nodefaults', '-no-user-config', '-display', 'none', '-qmp', 'stdio'];
  const commands: readonly { readonly execute: QmpCommandName | 'qmp_capabilities'; readonly id?: string }[] = [
    { execute: 'qmp_capabilities' },
    { execute: 'query-version', id: 'version' },
    { execute: 'query-machines', id: 'machines' },
    { execute: 'query-command-line-options', id: 'options' },
    { execute: 'quit' },
  ];
  const input = commands.map((command) => JSON.stringify(command)).join('\n');
  const run = await runProbe(binary, argv, { input, timeoutMs: PROBE_TIMEOUT_MS, user });
  try {
    const replies = readReplies(run.stdout);
    const { qemu } = v.parse(Version, replies.get('version'));
    return {
      version: `${qemu.major}.${qemu.minor}.${qemu.micro}`,
      machines: v.parse(Machines, replies.get('machines')),
      sandbox: v.parse(Options, replies.get('options')).some(({ option }) => option === 'sandbox'),
    };
  } catch (cause) {
    const why =
      run.error ??
      (run.timedOut ? `no answer within ${PROBE_TIMEOUT_MS} ms` : lastLine(run.stderr) || `it ended with code ${run.code}`);
    throw new FairleadError('PROCESS_FAILED', `could not ask ${binary} what it can: ${why}`, { cause });
  }
}

const Count = v.number();
const Version = v.object({ qemu: v.object({ major: Count, minor: Count, micro: Count }) });
const Machines = v.array(v.object({ name: v.string(), alias: v.optional(v.string()) }));
const Options = v.array(v.object({ option: v.string() }));
const Reply = v.object({ id: v.string(), return: v.unknown() });

function readReplies(stdout: string): Map<string, unknown> {
  const lines = stdout.split('\n').filter((line) => line.trim() !== '');
  const replies = lines.map((line) => v.safeParse(Reply, JSON.parse(line))).filter((result) => result.success);
  return new Map(replies.map(({ output }) => [output.id, output.return]));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

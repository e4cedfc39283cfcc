/** What the schema of a spec cannot say: fields that must fit each other, and files that must be there. */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { FairleadError } from '../../shared/errors.ts';
import { type FieldIssue, invalidValue } from '../../shared/protocol/parse-with.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { MIB } from './argv/host.ts';

/** @throws FairleadError INVALID_PARAMS */
export function checkSpec({ cpus, memory, boot, name }: VmSpec): void {
  const issues: FieldIssue[] = [];
  if (memory.bytes % MIB !== 0) {
    const near = Math.round(memory.bytes / MIB);
    issues.push({ path: 'spec.memory.bytes', message: `must be a whole number of MiB, such as ${near}MiB` });
  }
  if (cpus.topology !== undefined) {
    const { sockets, dies, cores, threads } = cpus.topology;
    const product = sockets * dies * cores * threads;
    if (product !== cpus.count) issues.push({ path: 'spec.cpus.count', message: `must be what the topology makes, ${product}` });
  }
  if (boot.kernel === undefined && (boot.initrd ?? boot.args) !== undefined) {
    issues.push({ path: 'spec.boot.kernel', message: 'is missing, and initrd and args are nothing without one' });
  }
  if (issues.length > 0) throw invalidValue(issues, 'INVALID_PARAMS', `the spec of VM ${name}`);
}

/** @throws FairleadError NOT_FOUND with the field and the path. */
export async function checkFiles({ name, boot, disks }: VmSpec): Promise<void> {
  const files = [
    { field: 'boot.kernel', path: boot.kernel, mode: constants.R_OK },
    { field: 'boot.initrd', path: boot.initrd, mode: constants.R_OK },
    ...disks.map(({ path, readOnly }, index) => {
      return { field: `disks[${index}].path`, path, mode: readOnly ? constants.R_OK : constants.R_OK | constants.W_OK };
    }),
  ];
  await Promise.all(
    files.map(async ({ field, path, mode }) => {
      if (path === undefined) return;
      try {
        await access(path, mode);
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
        const why = code === 'ENOENT' ? 'there is no such file on the host' : `the agent cannot use it: ${code}`;
        throw new FairleadError('NOT_FOUND', `spec.${field} of VM ${name} is ${JSON.stringify(path)}: ${why}`, {
          details: { vm: name, field, path, errno: code },
          cause: error,
        });
      }
    }),
  );
}

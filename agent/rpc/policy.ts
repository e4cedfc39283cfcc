/**
 * What the host's owner lets the hub do here (agent/config.ts has the settings). Every refusal is PERMISSION_DENIED, names the thing and
 * the setting, and happens before anything else does.
 */
import { realpath } from 'node:fs/promises';
import { resolve, sep } from 'node:path';
import { FairleadError } from '../../shared/errors.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';

export interface PolicyConfig {
  readonly methods: readonly string[];
  readonly qmpCommands: readonly string[];
  readonly vsockPorts: readonly string[];
  readonly imageRoots: readonly string[];
  readonly pciDevices: readonly string[];
}

export class Policy {
  readonly #config: PolicyConfig;

  constructor(config: PolicyConfig) {
    this.#config = config;
  }

  checkMethod(method: string): void {
    if (matchesAny(this.#config.methods, method)) return;
    throw denied(`method ${method} may not be called on this host`, 'methods');
  }

  checkQmp(command: string): void {
    if (matchesAny(this.#config.qmpCommands, command)) return;
    throw denied(`QMP command ${command} may not be sent on this host`, 'qmpCommands');
  }

  checkPort(port: number): void {
    if (this.#config.vsockPorts.some((range) => isInRange(range, port))) return;
    throw denied(`streams to vsock port ${port} may not be opened on this host`, 'vsockPorts');
  }

  /** Files and devices of the host that the spec asks for. A file that does not exist passes: who opens it says so better. */
  async checkSpec(spec: VmSpec): Promise<void> {
    for (const device of spec.pciDevices) {
      if (!matchesAny(this.#config.pciDevices, device))
        throw denied(`spec.pciDevices: ${device} may not be passed through`, 'pciDevices');
    }
    const files: [string, string | undefined][] = [
      ['spec.boot.kernel', spec.boot.kernel],
      ['spec.boot.initrd', spec.boot.initrd],
      ...spec.disks.map((disk, index): [string, string] => [`spec.disks[${index}].path`, disk.path]),
    ];
    for (const [field, path] of files) {
      if (path !== undefined) await this.#checkFile(field, path);
    }
  }

  async #checkFile(field: string, path: string): Promise<void> {
    const { imageRoots } = this.#config;
    const realRoots = await Promise.all(imageRoots.map(real));
    // The path as written, so that what lies outside is not even looked at; then where it leads.
    const isInside = (candidate: string, roots: readonly string[]) => roots.some((root) => isBelow(candidate, root));
    if (isInside(resolve(path), [...imageRoots, ...realRoots]) && isInside(await real(path), realRoots)) return;
    throw denied(`${field}: ${path} is not in a directory whose files guests may have (${imageRoots.join(', ')})`, 'imageRoots');
  }
}

async function real(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    return resolve(path);
  }
}

function isBelow(path: string, directory: string): boolean {
  const root = resolve(directory);
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}

/** A pattern is a name, or a prefix with `*` at its end. */
function matchesAny(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => (pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern));
}

function isInRange(range: string, port: number): boolean {
  if (range === '*') return true;
  const [first, last] = range.split('-').map(Number);
  return first !== undefined && port >= first && port <= (last ?? first);
}

function denied(what: string, setting: string): FairleadError {
  return new FairleadError('PERMISSION_DENIED', `${what}: its owner can allow it by ${setting}`, { details: { setting } });
}

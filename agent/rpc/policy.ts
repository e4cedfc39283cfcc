/**
 * What the host's owner lets the hub do here (agent/config.ts has the settings). Every refusal is PERMISSION_DENIED, names the thing and
 * the setting, and happens before anything else does.
 */
import { realpath } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { FairleadError } from '../../shared/errors.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { filesOfQcow2 } from './qcow2-files.ts';

export interface PolicyConfig {
  readonly methods: readonly string[];
  readonly qmpCommands: readonly string[];
  readonly vsockPorts: readonly string[];
  readonly imageRoots: readonly string[];
  readonly pciDevices: readonly string[];
  /** The agent's own files, which no root that holds this directory stands for. */
  readonly stateDir?: string | undefined;
}

/** An image on an image on an image: more than this is nobody's wish. */
const MAX_BACKING_DEPTH = 16;
/** Canonical forms alone: `..` in a path, or a longer one, would pass for a device that it is not. */
const PCI_DEVICE =
  /^((\/sys\/bus\/pci\/devices\/)?([0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|\/sys\/bus\/mdev\/devices\/[0-9a-z][0-9a-z-]*)\/?$/i;

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

  /**
   * Files and devices of the host that the spec asks for, and the files that its qcow2 images name in turn. A file that does not exist
   * passes: who opens it says so better. Images change, so it is asked again at each start, before and after QEMU has opened them.
   */
  async checkSpec(spec: VmSpec): Promise<void> {
    for (const device of spec.pciDevices) {
      if (!PCI_DEVICE.test(device) || !matchesAny(this.#config.pciDevices, device))
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
    for (const [index, { path, format }] of spec.disks.entries()) {
      if (format === 'qcow2') await this.#checkQcow2(`spec.disks[${index}].path`, path, MAX_BACKING_DEPTH);
    }
  }

  async #checkQcow2(field: string, path: string, depth: number): Promise<void> {
    const named = await filesOfQcow2(path);
    if (named?.data !== undefined) await this.#checkFile(`${field}: the data file of ${path}`, named.data);
    const backing = named?.backing;
    if (backing === undefined) return;
    if (depth === 0) throw denied(`${field}: ${path} has too many images below it`, 'imageRoots');
    await this.#checkFile(`${field}: the backing file of ${path}`, backing.path);
    if (backing.format === 'qcow2') await this.#checkQcow2(field, backing.path, depth - 1);
  }

  async #checkFile(field: string, path: string): Promise<void> {
    const { imageRoots } = this.#config;
    const realRoots = await Promise.all(imageRoots.map(real));
    // The path as written, so that what lies outside is not even looked at; then where it leads.
    const isInside = (candidate: string, roots: readonly string[]) => roots.some((root) => isBelow(candidate, root));
    const target = await real(path);
    if (isInside(resolve(path), [...imageRoots, ...realRoots]) && isInside(target, realRoots) && !(await this.#isOwn(target)))
      return;
    throw denied(`${field}: ${path} is not in a directory whose files guests may have (${imageRoots.join(', ')})`, 'imageRoots');
  }

  /** Keys, records and logs below the state directory, unless a root within it says otherwise. */
  async #isOwn(target: string): Promise<boolean> {
    const { stateDir, imageRoots } = this.#config;
    if (stateDir === undefined) return false;
    const realState = await real(stateDir);
    if (!isBelow(target, realState)) return false;
    const within = [join(stateDir, 'images'), ...imageRoots.filter((root) => !isBelow(stateDir, root))];
    const realWithin = await Promise.all(within.map(real));
    return !realWithin.some((root) => root !== realState && isBelow(root, realState) && isBelow(target, root));
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

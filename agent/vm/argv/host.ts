/** What a command line is built with: the facts beyond the spec, and the two syntaxes in which QEMU takes values. */
import type { VsockQemuBackend } from '../../streams/transport.ts';

/** Numbers of the inherited descriptors in the QEMU process. */
export const QMP_FD = 3;
export const VHOST_FD = 4;
/** Through which a saved guest comes. */
export const INCOMING_FD = 5;

export const MIB = 1024 ** 2;

/** One option with its value, where it has one. */
export type Option = readonly [flag: string] | readonly [flag: string, value: string];

/** What a command line needs beyond the spec. */
export interface ArgvHost {
  readonly uuid: string;
  readonly accelerator: 'kvm' | 'tcg';
  /** The machine's name in this QEMU: `pc-q35-7.2` for `q35`, so that an upgrade of QEMU never changes a guest's hardware unseen. */
  readonly machine: string;
  /** Whether this QEMU was built with seccomp. */
  readonly sandbox: boolean;
  /** Rate of the host's time stamp counter, where it is constant and known. */
  readonly tscKhz: number | undefined;
  readonly vsock: ArgvVsock | undefined;
  /** PCIe ports for devices that come and go, where the machine has been made with them already. Default: what the spec asks for. */
  readonly ports?: number | undefined;
  /** A file that RAM is mapped from copy on write, whatever the spec says of it: it is somebody else's. Default: none. */
  readonly privateRam?: string | undefined;
  /** Default: none of it. */
  readonly devices?: HostDevices | undefined;
  readonly paths: ArgvPaths;
}

/** What the devices of a VM find on this host. */
export interface HostDevices {
  /** Whether the kernel can move a tap's packets itself (/dev/vhost-net). */
  readonly vhostNet: boolean;
  /** The taps that the agent made for networks of type `bridge`, by the id of the network. */
  readonly taps: Readonly<Record<string, string>>;
  /** Those paths among the spec's disks that are block devices and no files. */
  readonly blockDevices: readonly string[];
}

export interface ArgvVsock {
  readonly cid: number;
  readonly backend: VsockQemuBackend;
}

export interface ArgvPaths {
  /** A second QMP monitor, for people: the first belongs to the agent, and QEMU serves one client a monitor. */
  readonly monitorSocket: string;
  /** The serial console: what people type comes through `….in`, `….out` leads nowhere, what the guest writes goes into `consoleLog`. */
  readonly consolePipes: string;
  readonly consoleLog: string;
  /** The host's end of the guest agent's virtio-serial port. */
  readonly guestAgentSocket: string;
  /** Guest RAM, and what can be added to it, where the spec wants them in files. */
  readonly ramFile: string;
  readonly addedRamFile: string;
}

export const NO_HOST_DEVICES: HostDevices = { vhostNet: false, taps: {}, blockDevices: [] };

/** A value in QEMU's `key=value,…` syntax: a comma is written twice. */
export function optionValue(text: string): string {
  return text.replaceAll(',', ',,');
}

export function json(value: object): string {
  return JSON.stringify(value);
}

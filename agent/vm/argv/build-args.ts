/**
 * From spec to command line. Pure: the same spec and facts give the same argv, byte for byte.
 *
 * Nothing that a caller wrote can become an option of its own. Whatever QEMU parses as JSON (`-object -blockdev -netdev -device`) is
 * given as JSON, where no character of a value is special; what it takes as one whole argument (`-kernel -initrd -append -cpu`) is one
 * element of the argv; `-chardev` knows no JSON, so the paths there, which are the agent's own, have their commas doubled.
 *
 * What only one machine type has is not looked at here: spec-check.ts has refused it, or the spec's defaults have left it out.
 */
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { guestAgentOptions, pciOption, smallDeviceOptions, vsockOptions } from './devices.ts';
import { diskOptions } from './disks.ts';
import { type ArgvHost, type ArgvPaths, json, NO_HOST_DEVICES, type Option, optionValue, QMP_FD } from './host.ts';
import { memoryOptions } from './memory.ts';
import { networkOptions } from './networks.ts';
import { portOptions } from './slots.ts';

export function buildArgs(spec: VmSpec, host: ArgvHost): string[] {
  const { devices = NO_HOST_DEVICES } = host;
  const options: Option[] = [
    ...processOptions(spec, host),
    ...machineOptions(spec, host),
    ...memoryOptions(spec, host),
    ...firmwareOptions(spec),
    ...bootOptions(spec, host),
    ...monitorOptions(host.paths),
    ...consoleOptions(host.paths),
    ...portOptions(spec, host.ports),
    ...diskOptions(spec, devices),
    ...networkOptions(spec, devices),
    ...vsockOptions(spec, host.vsock),
    ...spec.pciDevices.map(pciOption),
    ...guestAgentOptions(spec, host.paths),
    ...smallDeviceOptions(spec),
  ];
  return options.flat();
}

function processOptions(spec: VmSpec, host: ArgvHost): Option[] {
  const options: Option[] = [
    ['-name', `guest=${spec.name},debug-threads=on`],
    ['-uuid', host.uuid],
    // The guest's first instruction waits for the agent's `cont`, so that no event is missed.
    ['-S'],
    ['-nodefaults'],
    ['-no-user-config'],
    ['-display', 'none'],
    ['-msg', 'timestamp=on'],
    // A guest that panics is kept for inspection and told as `panicked`, instead of vanishing.
    ['-action', 'panic=pause'],
  ];
  if (host.sandbox) options.push(['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny']);
  return options;
}

function machineOptions(spec: VmSpec, host: ArgvHost): Option[] {
  return [
    ['-machine', [host.machine, 'memory-backend=ram0', 'dump-guest-core=off', ...machineProperties(spec, host)].join(',')],
    ['-accel', host.accelerator],
    ['-cpu', spec.cpus.model ?? defaultCpu(spec, host)],
    ['-smp', smp(spec.cpus)],
  ];
}

function defaultCpu({ machine }: VmSpec, { accelerator }: ArgvHost): string {
  if (accelerator === 'kvm') return 'host';
  // An arm64 kernel signs its return addresses. To emulate the architecture's own cipher makes a boot five times slower (tried).
  return machine === 'virt' ? 'max,pauth-impdef=on' : 'max';
}

function machineProperties({ machine, boot: { firmware } }: VmSpec, { accelerator }: ArgvHost): string[] {
  const properties: string[] = [];
  // microvm gets its PCIe bus, so that every machine has the same devices and a guest image needs one set of drivers.
  if (machine === 'microvm') properties.push('pcie=on');
  // Its default is a controller for eight CPUs; a host has the one that it has.
  if (machine === 'virt') properties.push(`gic-version=${accelerator === 'kvm' ? 'host' : '3'}`);
  if (firmware?.vars !== undefined) properties.push('pflash0=firmware-code', 'pflash1=firmware-vars');
  return properties;
}

function firmwareOptions({ machine, boot: { firmware, kernel } }: VmSpec): Option[] {
  // The SeaBIOS that comes with QEMU 10 starts an uncompressed kernel on microvm so that it hangs early in its boot (tried: 1.16.3). qboot
  // is made for this machine and comes with every QEMU, but it starts nothing from a disk.
  if (firmware === undefined) return machine === 'microvm' && kernel !== undefined ? [['-bios', 'qboot.rom']] : [];
  if (firmware.vars === undefined) return [['-bios', firmware.code]];
  const flash = (name: string, filename: string, readOnly: boolean): Option => {
    return ['-blockdev', json({ driver: 'file', 'node-name': name, filename, 'read-only': readOnly })];
  };
  return [flash('firmware-code', firmware.code, true), flash('firmware-vars', firmware.vars, false)];
}

function smp({ count, topology }: VmSpec['cpus']): string {
  if (topology === undefined) return String(count);
  const { sockets, dies, cores, threads } = topology;
  // Not every machine knows dies, so one is not mentioned.
  return `${count},sockets=${sockets}${dies === 1 ? '' : `,dies=${dies}`},cores=${cores},threads=${threads}`;
}

function bootOptions({ boot, machine }: VmSpec, { accelerator, tscKhz }: ArgvHost): Option[] {
  const options: Option[] = [];
  if (boot.kernel !== undefined) options.push(['-kernel', boot.kernel]);
  if (boot.initrd !== undefined) options.push(['-initrd', boot.initrd]);
  // microvm has no clock to measure the counter against but the PIT. Emulated on a busy host that fails, and Linux then waits for ever.
  const mustBeTold = boot.kernel !== undefined && machine === 'microvm' && accelerator === 'tcg' && tscKhz !== undefined;
  const args = [boot.args, mustBeTold ? `tsc_early_khz=${tscKhz}` : undefined].filter((part) => part !== undefined);
  if (args.length > 0) options.push(['-append', args.join(' ')]);
  return options;
}

function monitorOptions(paths: ArgvPaths): Option[] {
  return [
    ['-chardev', `socket,id=qmp,fd=${QMP_FD},server=on,wait=off`],
    ['-mon', 'chardev=qmp,mode=control'],
    ['-chardev', `socket,id=monitor,path=${optionValue(paths.monitorSocket)},server=on,wait=off`],
    ['-mon', 'chardev=monitor,mode=control'],
    // A third that nobody asks anything: QEMU tells its events there whether or not an agent is there (trail.ts).
    ['-chardev', 'stdio,id=trail,signal=off'],
    ['-mon', 'chardev=trail,mode=control'],
  ];
}

function consoleOptions(paths: ArgvPaths): Option[] {
  const pipe = `pipe,id=console,path=${optionValue(paths.consolePipes)}`;
  return [
    ['-chardev', `${pipe},logfile=${optionValue(paths.consoleLog)},logappend=on`],
    ['-serial', 'chardev:console'],
  ];
}

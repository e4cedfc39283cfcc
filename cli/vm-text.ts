/** What is shown of one VM. */
import type { VmInfo } from '../shared/protocol/vm.ts';
import { humanBytes, type Output } from './output.ts';

export function printVm(output: Output, info: VmInfo): void {
  output.record(info, vmLines(info), info.name);
}

export function vmLines(info: VmInfo): readonly (readonly [string, string | number | undefined])[] {
  return [
    ['vm', info.name],
    ['state', info.ready ? `${info.state}, ready` : info.state],
    ['uuid', info.uuid],
    ['generation', info.generation],
    ['pid', info.pid],
    ['machine', `${info.spec.machine}, ${info.accelerator ?? info.spec.accelerator}`],
    ['cpus', info.spec.cpus.count],
    ['memory', memoryText(info)],
    ['vsock', info.vsock && `cid ${info.vsock.cid}, ${info.vsock.transport}${info.vsock.halfClose ? '' : ', no half-close'}`],
    ['suspended', info.suspended && `${info.suspended.at}, durable over the end of its ${info.suspended.durability}`],
    ['created', info.createdAt],
    ['started', info.startedAt],
    [
      'exit',
      info.exit &&
        `${info.exit.reason}${info.exit.code === null ? '' : `, code ${info.exit.code}`}${info.exit.signal === null ? '' : `, ${info.exit.signal}`}`,
    ],
  ];
}

/** What it was started with, and what it has where that is something else. */
function memoryText({ spec, memory }: VmInfo): string {
  const { bytes, maxBytes } = spec.memory;
  const most = maxBytes === undefined ? '' : `, at most ${humanBytes(maxBytes)}`;
  const now = memory === undefined || memory.actualBytes === bytes ? '' : `, ${humanBytes(memory.actualBytes)} at present`;
  return `${humanBytes(bytes)}${most}${now}`;
}

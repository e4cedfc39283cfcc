/** The demo guest as a VM's boot parameters, for commands that are given no kernel and no disk. */
import { artefacts } from './cache.ts';

export interface DemoImage {
  readonly kernel: string;
  readonly initrd: string;
  readonly args: string;
  /** The guest dials CID 2 on this vsock port when its services listen. */
  readonly readyPort: number;
}

/** Kernel arguments that the image is made for: messages on the serial line, and a panic or reboot resets at once. */
const KERNEL_ARGS = 'console=ttyS0 reboot=t panic=-1 quiet';
const READY_PORT = 1023;

/** Undefined until `fairlead image build` has run. The uncompressed kernel is taken where there is one: it boots sooner. */
export function demoImage(): DemoImage | undefined {
  const { kernel, vmlinux, initrd } = artefacts();
  const boot = vmlinux ?? kernel;
  return boot === undefined || initrd === undefined
    ? undefined
    : { kernel: boot, initrd, args: KERNEL_ARGS, readyPort: READY_PORT };
}

/**
 * A release of the agent: a gzipped tar archive of the package as it runs, `release.json` first. It is kept and sent as an image is, and named
 * by the digest of the archive. The manifest says what a host must be for it; an agent that is told to change to it looks before it leaves.
 */
import * as v from 'valibot';
import { Count } from './common.ts';
import { Digest } from './image-ref.ts';

/**
 * Forms of what agents keep in their state directory: records of VMs, journal, snapshots, desired state. It rises when a record is written that an older
 * agent could not read. A release that writes form n comes after one that reads it, so that the way back stays open.
 */
export const STATE_FORM = { oldestRead: 1, newestRead: 1, written: 1 } as const;

export const RELEASE_MANIFEST = 'release.json';
/** What a release is started by. */
export const RELEASE_ENTRY = 'bin/fairlead.js';

const Version = v.pipe(
  v.string(),
  v.regex(/^\d{1,6}\.\d{1,6}\.\d{1,6}(-[0-9A-Za-z.-]{1,64})?$/, 'must be a version such as 1.2.3'),
);

/** A newer one may say more. */
export const ReleaseManifest = v.object({
  kind: v.literal('fairlead-agent'),
  version: Version,
  contractVersion: Count,
  /** The oldest Node that runs it. */
  node: Version,
  platform: v.string(),
  architecture: v.string(),
  /** Of the native add-on in it: `glibc` or `musl`; `any` without one. */
  libc: v.string(),
  stateForm: v.object({ oldestRead: Count, newestRead: Count, written: Count }),
});
export type ReleaseManifest = v.InferOutput<typeof ReleaseManifest>;

/** `installed` is the program that the host was set up with. */
export const ReleaseName = v.union([Digest, v.literal('installed')], 'must be sha256:DIGITS or installed');

/** What is signed of a release: its digest says all of it. */
export function releaseSignatureBytes(release: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`fairlead-agent-release-v1\n${release}\n`);
}

/** What a release is run by. */
export interface ReleaseHost {
  readonly node: string;
  readonly platform: string;
  readonly architecture: string;
  readonly libc: string;
}

/** Why a release cannot run there; undefined where it can. `stateForm` is that of the agent that would be left. */
export function whyNot(
  manifest: ReleaseManifest,
  host: ReleaseHost,
  stateForm: ReleaseManifest['stateForm'] = STATE_FORM,
): string | undefined {
  const { platform, architecture, libc, node, stateForm: theirs } = manifest;
  if (platform !== host.platform || architecture !== host.architecture) {
    return `it is for ${platform} on ${architecture}, and this is ${host.platform} on ${host.architecture}`;
  }
  if (libc !== 'any' && libc !== host.libc) return `its native add-on is for ${libc}, and this host has ${host.libc}`;
  if (isOlder(host.node, node)) return `it needs Node ${node} or later, and this is ${host.node}`;
  if (stateForm.written < theirs.oldestRead || stateForm.written > theirs.newestRead) {
    return `it reads the state of forms ${theirs.oldestRead} to ${theirs.newestRead}, and what is on this host has form ${stateForm.written}`;
  }
  if (theirs.written > stateForm.newestRead) {
    return `it writes the state in form ${theirs.written}, which the agent here could not read if it had to come back: change to a release between the two first`;
  }
  return undefined;
}

function isOlder(version: string, than: string): boolean {
  const [left, right] = [version, than].map((text) => text.split('-')[0]?.split('.').map(Number) ?? []);
  for (const at of [0, 1, 2]) {
    const difference = (left?.[at] ?? 0) - (right?.[at] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

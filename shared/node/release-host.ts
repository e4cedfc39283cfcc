/** What releases are run by on this host. */
import type { ReleaseHost } from '../protocol/release.ts';

export function releaseHost(): ReleaseHost {
  return { node: process.versions.node, platform: process.platform, architecture: process.arch, libc: libc() };
}

/** Node says with which glibc it runs, where it is that. */
function libc(): string {
  if (process.report === undefined) return 'glibc';
  // Else it looks up the names of everybody whom this process is connected to.
  Object.assign(process.report, { excludeNetwork: true });
  const report: unknown = process.report.getReport();
  const header = typeof report === 'object' && report !== null && 'header' in report ? report.header : undefined;
  return typeof header === 'object' && header !== null && 'glibcVersionRuntime' in header ? 'glibc' : 'musl';
}

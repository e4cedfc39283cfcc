/** The snapshots of a test host, as its agent would keep them. */
import { join } from 'node:path';
import { Snapshots, type SnapshotsOptions } from '../../agent/vm/snapshot/snapshots.ts';
import { silent, type TestHost } from './vm.ts';

export function snapshotsOf({ manager, options }: TestHost, more: Partial<SnapshotsOptions> = {}): Snapshots {
  const { vsock, stateDir } = options;
  return new Snapshots({
    vms: manager,
    directory: join(stateDir, 'snapshots'),
    checkPolicy: async () => {},
    vsockKind: vsock.available ? vsock.transport.kind : undefined,
    seedGuest: async () => {},
    setClock: async () => {},
    nameGuest: async () => {},
    logger: silent,
    ...more,
  });
}

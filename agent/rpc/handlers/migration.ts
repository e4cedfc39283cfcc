/** Methods that send a VM elsewhere: policy first, then the migration itself. */
import type { MIGRATION_METHODS } from '../../../shared/protocol/methods-migration.ts';
import type { Vms } from '../../vm/api.ts';
import { Migrator } from '../../vm/migration/migrator.ts';
import type { Policy } from '../policy.ts';
import type { HandlersOf } from './types.ts';

export function migrationHandlers(vms: Vms, policy: Policy): HandlersOf<typeof MIGRATION_METHODS> {
  const migrator = new Migrator(vms);
  return {
    'vm.migrate': async (params, { signal, timeoutMs, progress }) => {
      await policy.checkMigration(params.uri);
      return migrator.migrate(params, { signal, timeoutMs, onProgress: progress });
    },
    'vm.migration': ({ vm }, { signal, timeoutMs }) => migrator.read(vm, { signal, timeoutMs }),
    'vm.migrateWait': ({ vm }, { signal, timeoutMs, progress }) => migrator.wait(vm, { signal, timeoutMs, onProgress: progress }),
    'vm.migrateCancel': ({ vm }, { signal, timeoutMs }) => migrator.cancel(vm, { signal, timeoutMs }),
  };
}

/** One command on every host through the hub, as many at once as the hub takes of one operator. Each is in its host's journal, on disk. */
import { connectHub } from '../../cli/connection.ts';

const AT_ONCE = 200;
const TIMEOUT_MS = 120_000;

export async function hostOperations(fleet: { url: string; adminToken: string; hosts: number }): Promise<number> {
  const { url, adminToken, hosts } = fleet;
  await using operator = await connectHub({ hub: url, token: adminToken }, { timeoutMs: TIMEOUT_MS });
  const names = Array.from({ length: hosts }, (_, index) => `sim-${String(index + 1).padStart(5, '0')}`).values();
  const startedAt = performance.now();
  const work = async (): Promise<void> => {
    for (const host of names) await operator.call('vm.reset', { vm: 'vm-1' }, host);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return hosts / ((performance.now() - startedAt) / 1000);
}

/** The updating of the agent, loaded when somebody asks for it. */
import type { UpdaterOptions } from './updater.ts';
import type { Updates } from './updates.ts';

export function updatesOnDemand(options: UpdaterOptions): Updates {
  let opened: Promise<Updates> | undefined;
  const open = (): Promise<Updates> => {
    opened ??= import('./updater.ts').then(({ Updater }) => new Updater(options));
    return opened;
  };
  return {
    release: async () => (await open()).release(),
    update: async (params, limits) => (await open()).update(params, limits),
    outcomeOf: async (commandId) => (await open()).outcomeOf(commandId),
  };
}

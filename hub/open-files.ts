/** Each connection is an open file: a limit that is too low is told when the hub starts, and not when the last hosts cannot come in. */
import { readOpenFilesLimit } from '../shared/node/open-files.ts';
import type { HubConfig } from './config.ts';
import type { HubLogger } from './logger.ts';

/** Of the store, its log, images on their way, and Node itself. */
const FILES_BESIDES = 256;

type Capacity = Pick<HubConfig, 'maxHosts' | 'maxOperators' | 'maxUnauthenticated'>;

export function warnOfFewFiles(config: Capacity, logger: HubLogger, limit = readOpenFilesLimit()): void {
  const { maxHosts, maxOperators, maxUnauthenticated } = config;
  const needed = maxHosts + maxOperators + maxUnauthenticated + FILES_BESIDES;
  if (limit === undefined || limit >= needed) return;
  const room = Math.max(0, limit - (needed - maxHosts));
  logger.warn(
    { limit, needed, maxHosts },
    `this process may have ${limit} files open, enough for some ${room} hosts and not for the ${maxHosts} of maxHosts: ` +
      'raise the limit (LimitNOFILE of systemd, ulimit -n), or lower maxHosts',
  );
}

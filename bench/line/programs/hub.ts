/** A real hub with its data in memory, on `address`, that logs as the program does, and tells the benchmark of each host that connects. */
import { pino } from 'pino';
import { parseHubConfig } from '../../../hub/config.ts';
import { createHub } from '../../../hub/hub.ts';
import type { HubLogger } from '../../../hub/logger.ts';
import { endWithBenchmark, programArgs, tell } from '../../programs.ts';

/** The session's own word that it serves. */
const CONNECTED = /^host (\S+) connected$/;

const { logFile, address = '127.0.0.1' } = programArgs<{ logFile: string; address?: string }>();

endWithBenchmark();
const logger = telling(pino({ base: null }, pino.destination({ dest: logFile, sync: false })));
const hub = createHub(parseHubConfig({ dataDir: ':memory:', listen: `${address}:0`, insecure: true, drainMs: 0 }), { logger });
await hub.start();
tell({
  url: hub.address.url,
  adminToken: await hub.bootstrap.adminToken(),
  enrolToken: await hub.bootstrap.enrolToken({ maxUses: 1000 }),
});

function telling(log: HubLogger): HubLogger {
  return {
    debug: (fields, message) => log.debug(fields, message),
    info(fields, message) {
      log.info(fields, message);
      const host = CONNECTED.exec(message)?.[1];
      if (host !== undefined) tell({ connected: host });
    },
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
    child: (bindings) => telling(log.child(bindings)),
  };
}

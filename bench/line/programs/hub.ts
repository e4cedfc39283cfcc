/** A real hub with its data in memory, that tells the benchmark of each host that connects. Nothing of its log is written. */
import { parseHubConfig } from '../../../hub/config.ts';
import { createHub } from '../../../hub/hub.ts';
import type { HubLogger } from '../../../hub/logger.ts';
import { endWithBenchmark, tell } from '../../programs.ts';

/** The session's own word that it serves. */
const CONNECTED = /^host (\S+) connected$/;

const logger: HubLogger = {
  debug() {},
  info(_, message) {
    const host = CONNECTED.exec(message)?.[1];
    if (host !== undefined) tell({ connected: host });
  },
  warn() {},
  error: (fields, message) => void process.stderr.write(`hub: ${message} ${JSON.stringify(fields)}\n`),
  child: () => logger,
};

endWithBenchmark();
const hub = createHub(parseHubConfig({ dataDir: ':memory:', listen: '127.0.0.1:0', drainMs: 0 }), { logger });
await hub.start();
tell({
  url: hub.address.url,
  adminToken: await hub.bootstrap.adminToken(),
  enrolToken: await hub.bootstrap.enrolToken({ maxUses: 1000 }),
});

/**
 * A real hub with its data in files, as a fleet meets it: at a fixed port, so that it can be killed and come again. It counts the hosts that
 * it has let in, second by second, and tells its memory when asked.
 */
import { parseHubConfig } from '../../../hub/config.ts';
import { createHub } from '../../../hub/hub.ts';
import type { HubLogger } from '../../../hub/logger.ts';
import { endWithBenchmark, programArgs, tell } from '../../programs.ts';
import { collector } from '../collector.ts';

export interface FleetHub {
  readonly dataDir: string;
  /** 0 for any. */
  readonly port: number;
  /** Of the listener for probes; 0 for any. */
  readonly healthPort: number;
  readonly hosts: number;
}

export interface FleetHubReady {
  readonly port: number;
  readonly url: string;
  readonly healthPort: number;
  readonly healthUrl: string;
  readonly adminToken: string;
  readonly enrolToken: string;
}

export interface FleetHubFigures {
  /** Resident as it is, before anything is collected. */
  readonly residentBytes: number;
  /** Resident once V8 has given back what it keeps for later. */
  readonly rssBytes: number;
  readonly heapBytes: number;
  /** Hosts let in during the busiest second. */
  readonly busiestSecond: number;
}

const CONNECTED = /^host \S+ connected$/;

endWithBenchmark();
const { dataDir, port, healthPort, hosts } = programArgs<FleetHub>();
const config = parseHubConfig({
  dataDir,
  listen: `127.0.0.1:${port}`,
  healthListen: `127.0.0.1:${healthPort}`,
  drainMs: 0,
  // All come from one address; what one may do and what all may do is the same here.
  addressHandshakesPerSecond: 1000,
  addressHandshakeBurst: 2000,
});
const bySecond = new Map<number, number>();
const hub = createHub(config, { logger: counting() });
await hub.start();
const { healthAddress } = hub;
if (healthAddress === undefined) throw new Error('a listener for probes was asked for');
const ready: FleetHubReady = {
  port: hub.address.port,
  url: hub.address.url,
  healthPort: healthAddress.port,
  healthUrl: healthAddress.url,
  adminToken: await hub.bootstrap.adminToken(),
  enrolToken: await hub.bootstrap.enrolToken({ maxUses: hosts }),
};
tell(ready);

const collect = collector();
process.on('message', () => {
  const residentBytes = process.memoryUsage.rss();
  collect();
  const { rss, heapUsed } = process.memoryUsage();
  const busiestSecond = Math.max(0, ...bySecond.values());
  const figures: FleetHubFigures = { residentBytes, rssBytes: rss, heapBytes: heapUsed, busiestSecond };
  tell(figures);
});

function counting(): HubLogger {
  const logger: HubLogger = {
    debug() {},
    info(_fields, message) {
      if (!CONNECTED.test(message)) return;
      const second = Math.floor(performance.now() / 1000);
      bySecond.set(second, (bySecond.get(second) ?? 0) + 1);
    },
    warn() {},
    error: (fields, message) => void process.stderr.write(`hub: ${message} ${JSON.stringify(fields)}\n`),
    child: () => logger,
  };
  return logger;
}

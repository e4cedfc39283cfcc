/** Thousands of streams into one real guest at once, with the limits as they are by default. The kernel's transport: test/soak, in the rig. */
import { expect, it } from 'vitest';
import { exchangeThousands } from '../support/thousands-of-streams.ts';
import { startFleet, whyNoGuest } from '../support/up.ts';

const STREAMS = 2_000;
const CONNECT_MS = 150_000;

const reason = whyNoGuest();
if (reason !== undefined) console.log(`skipped: ${reason}`);

it.skipIf(reason !== undefined)(
  `${STREAMS} streams at once into one guest, each with bytes of its own, and none is left`,
  async () => {
    await using fleet = await startFleet();
    const took = await exchangeThousands(fleet, { streams: STREAMS, connectTimeoutMs: CONNECT_MS });
    expect(took).toContain('over vhost-user');
    console.log(took);
  },
);

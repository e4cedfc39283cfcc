/** Thousands of streams into one guest at once, over the kernel's vsock. Run inside a VM that has KVM and /dev/vhost-vsock. */
import assert from 'node:assert/strict';
import { exchangeThousands } from '../../support/thousands-of-streams.ts';
import { startFleet } from '../../support/up.ts';
import { runCases } from '../../support/vm-cases.ts';

const CONNECT_MS = 250_000;

await using fleet = await startFleet();
await runCases({
  '2,000 streams are open at once, each with bytes of its own, half-closed, and none is left': async () => {
    const took = await exchangeThousands(fleet, { streams: 2_000, connectTimeoutMs: CONNECT_MS });
    assert.match(took, /over vhost-vsock/);
    return took;
  },
});

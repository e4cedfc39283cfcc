/**
 * Streams that cannot be resumed, over real sockets: both ends are told by an error, whichever of the two the reason is. Neither may take what
 * it has for all there was.
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { describe, expect, it, onTestFinished } from 'vitest';
import { connect } from '../../client/index.ts';
import { type Clock, systemClock } from '../../shared/clock.ts';
import { HeldStreams } from '../../shared/line/held-streams.ts';
import type { Line } from '../../shared/line/line.ts';
import type { LineHandlers } from '../../shared/line/types.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { GRACE_MS } from '../../shared/mux/limits.ts';
import { channelDuplex } from '../../shared/node/channel-duplex.ts';
import { ownPort } from '../support/own-port.ts';
import { addTestHost, connectTestAgent, connectTestOperator } from '../support/test-agent.ts';
import { startTestHub, type TestHub } from '../support/test-hub.ts';

const OPENED = { transport: 'vhost-vsock', halfClose: true, generation: 1 };
const PARAMS = { vm: 'web', host: 'h1', port: 7 };
/** Instead of the minute that lines have to come back. */
const HOLD_MS = 200;
/** What each end is told, with all that had come. */
const GUEST_LOST = { got: 'good day', error: { code: 'INTERRUPTED' } };
const OPERATOR_LOST = { got: 'hello', error: { code: 'INTERRUPTED' } };

const hurried: Clock = {
  now: () => systemClock.now(),
  setTimeout: (callback, delayMs) => systemClock.setTimeout(callback, delayMs === GRACE_MS ? HOLD_MS : delayMs),
};

/** What became of an end; `ended` would be the silent loss. */
interface Fate {
  readonly got: string;
  readonly error?: unknown;
  readonly ended?: true;
}

function fateOf(end: Duplex): Promise<Fate> {
  const { promise, resolve } = Promise.withResolvers<Fate>();
  let got = '';
  end.on('data', (bytes: Buffer) => {
    got += bytes.toString();
  });
  end.once('end', () => resolve({ got, ended: true }));
  end.once('error', (error) => resolve({ got, error }));
  return promise;
}

/** A host whose guest answers, so that whoever has read the answer knows how far both ends are. */
function guestEnd(): { onOpen: LineHandlers['onOpen']; lineIs(line: Line): void; fate: Promise<Fate> } {
  let line: Line | undefined;
  const { promise: fate, resolve } = Promise.withResolvers<Fate>();
  return {
    onOpen: (stream, meta) => {
      if (line === undefined) throw new Error('a stream came before the line');
      const end = channelDuplex(MuxChannel.accept(line.mux, stream, OPENED, meta));
      void fateOf(end).then(resolve);
      end.once('data', () => end.write('hello'));
    },
    lineIs: (its) => {
      line = its;
    },
    fate,
  };
}

/** Says a word, and waits for the answer. */
async function talk(end: Duplex): Promise<{ readonly fate: Promise<Fate> }> {
  const fate = fateOf(end);
  end.write('good day');
  await once(end, 'data');
  return { fate };
}

interface HubPlace {
  readonly dataDir: string;
  readonly listen: string;
}

/** Where a hub may come back to. */
async function hubPlace(): Promise<HubPlace> {
  const dataDir = await mkdtemp(join(tmpdir(), 'fl-hub-'));
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
  return { dataDir, listen: `127.0.0.1:${await ownPort()}` };
}

interface Patience {
  /** Who waits for the whole minute: an error there is what somebody else told it. */
  readonly patient?: 'host' | 'operator' | 'all';
  readonly place?: HubPlace;
}

/** A hub, a host and an operator with a stream to it that has carried a word each way. Their lines do not come back by themselves. */
async function openStream({ patient, place }: Patience = {}) {
  const start = (): Promise<TestHub> => startTestHub(place, { clock: patient === 'all' ? systemClock : hurried });
  let hub = await start();
  const heldBy = (who: 'host' | 'operator'): HeldStreams =>
    new HeldStreams({ graceMs: patient === who || patient === 'all' ? GRACE_MS : HOLD_MS });
  const holds = [heldBy('host'), heldBy('operator')] as const;
  const guest = guestEnd();
  const agent = await addTestHost(hub, 'h1', { held: holds[0], onOpen: guest.onOpen });
  guest.lineIs(agent.line);
  await hub.logged('host h1 connected');
  const operator = await connectTestOperator(hub.url, hub.adminToken, holds[1]);
  onTestFinished(async () => {
    for (const held of holds) held[Symbol.dispose]();
    await operator[Symbol.asyncDispose]();
    await agent[Symbol.asyncDispose]();
    await hub[Symbol.asyncDispose]();
  });
  const end = channelDuplex(await MuxChannel.open(operator.line.mux, { method: 'stream.open', params: PARAMS }));
  const { fate } = await talk(end);
  return {
    hub,
    agent,
    operator,
    fates: { guest: guest.fate, operator: fate },
    hostIsBack: () => connectTestAgent({ url: hub.url, host: 'h1', key: agent.key, held: holds[0] }),
    operatorIsBack: () => connectTestOperator(hub.url, hub.adminToken, holds[1]),
    /** Another process in its place; both lines break. */
    async hubIsBack() {
      await hub[Symbol.asyncDispose]();
      hub = await start();
    },
  };
}

describe('a stream that cannot be resumed ends with an error at both ends', () => {
  it('when the host stays away for longer than it is held', async () => {
    const { agent, fates } = await openStream({ patient: 'operator' });
    agent.socket.terminate();
    expect(await fates.operator).toMatchObject(OPERATOR_LOST);
    expect(await fates.guest).toMatchObject(GUEST_LOST);
  });

  it('when the operator stays away for longer than that', async () => {
    const { operator, fates } = await openStream({ patient: 'host' });
    operator.socket.terminate();
    expect(await fates.guest).toMatchObject(GUEST_LOST);
    expect(await fates.operator).toMatchObject(OPERATOR_LOST);
  });

  it('when the host is back after that, and still holds it', async () => {
    const { agent, fates, hostIsBack } = await openStream({ patient: 'host' });
    agent.socket.terminate();
    expect(await fates.operator).toMatchObject(OPERATOR_LOST);
    await using _agent = await hostIsBack();
    expect(await fates.guest).toMatchObject(GUEST_LOST);
  });

  it.each(['host', 'operator'] as const)('when only the %s comes back to a hub that was started again', async (who) => {
    const { fates, hubIsBack, hostIsBack, operatorIsBack } = await openStream({ patient: who, place: await hubPlace() });
    await hubIsBack();
    await using _line = who === 'host' ? await hostIsBack() : await operatorIsBack();
    expect(await fates.guest).toMatchObject(GUEST_LOST);
    expect(await fates.operator).toMatchObject(OPERATOR_LOST);
  });

  it('when another session of the host has taken the place of the one that holds it', async () => {
    const { hub, agent, fates } = await openStream({ patient: 'all' });
    await using _successor = await connectTestAgent({ url: hub.url, host: 'h1', key: agent.key, held: new HeldStreams() });
    expect(await fates.operator).toMatchObject(OPERATOR_LOST);
    expect(await fates.guest).toMatchObject(GUEST_LOST);
    expect(await agent.line.closed).toMatchObject({ reason: expect.stringContaining('superseded') });
  });

  it('when the hub comes back without what it knew: it lets neither of them in', async () => {
    const place = await hubPlace();
    const { hub, fates, hubIsBack, hostIsBack } = await openStream({ place });
    const client = await connect(hub.url, hub.adminToken);
    onTestFinished(() => client[Symbol.asyncDispose]());
    const { fate } = await talk(await client.openStream('web', 7));
    await rm(place.dataDir, { recursive: true });
    await hubIsBack();
    await expect(hostIsBack()).rejects.toThrow('refused');
    expect(await fate).toMatchObject({ got: 'hello', error: { code: 'INTERRUPTED' } });
    expect(await fates.operator).toMatchObject(OPERATOR_LOST);
    expect(await fates.guest).toMatchObject(GUEST_LOST);
  });
});

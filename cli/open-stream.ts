/** Streams as the command line uses them: it writes from no memory that it uses again, so that nothing is copied. */
import type { Hub, OpenedStream, OpenLimits, StreamMethodName } from '../client/index.ts';
import { channelDuplex } from '../shared/node/channel-duplex.ts';
import type { OperatorParams } from '../shared/protocol/operator.ts';

/** As `Hub.open`. */
export async function openStream<M extends StreamMethodName>(
  hub: Hub,
  method: M,
  params: OperatorParams<M>,
  limits: OpenLimits,
): Promise<OpenedStream<M>> {
  const { channel, opened } = await hub.openChannel(method, params, limits);
  return { stream: channelDuplex(channel), opened };
}

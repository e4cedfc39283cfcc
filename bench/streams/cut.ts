/** One bout: the agent's connection dies in the middle of a transfer, of which no byte may be missing. */
import type { Figures } from '../contest.ts';
import { startProgram } from '../programs.ts';
import type { Contender } from './contenders.ts';
import type { Transferred } from './order.ts';
import type { Place } from './place.ts';

const MIB = 1024 ** 2;

export interface CutSizes {
  readonly warmUpBytes: number;
  readonly bytes: number;
  /** What the sink has got when the connection is cut. */
  readonly cutAtBytes: number;
}

const SIZES: CutSizes = { warmUpBytes: 64 * MIB, bytes: 256 * MIB, cutAtBytes: 64 * MIB };

/** `ms`: how long the sink heard nothing. @throws Error when the transfer ends short or wrong */
export async function cutBout(
  contender: Contender,
  scope: AsyncDisposableStack,
  place: Place,
  parent: string,
  { warmUpBytes, bytes, cutAtBytes }: CutSizes = SIZES,
): Promise<Figures> {
  const cutter = scope.use(await startProgram('streams/programs/cutter.ts'));
  const portTo = (hubPort: number): number => {
    cutter.send({ hubPort });
    return Number(cutter.ready['port']);
  };
  const line = await contender.start(scope, { ...place, portTo }, parent);
  line.order({ do: 'transfer', bytes: warmUpBytes });
  await line.hear<Transferred>('transfer to warm up');
  await line.askSink({ silence: true }, 'silence');
  line.order({ do: 'transfer', bytes });
  await line.askSink({ hashed: cutAtBytes }, 'bytes before the cut');
  cutter.send({ cut: true });
  const { sent, got } = await line.hear<Transferred>('transfer with a cut');
  if (got !== sent) throw new Error(got === '' ? 'the stream ended short' : 'bytes were lost or doubled');
  const { silenceMs } = await line.askSink<{ silenceMs: number }>({ silence: true }, 'silence');
  return { ms: silenceMs };
}

/** One bout: the agent's connection dies in the middle of a transfer, of which no byte may be missing. */
import type { Figures } from '../contest.ts';
import { startProgram } from '../programs.ts';
import type { Contender } from './contenders.ts';
import type { Transferred } from './order.ts';
import type { Place } from './place.ts';

const WARM_UP_BYTES = 64 * 1024 ** 2;
const BYTES = 256 * 1024 ** 2;
/** Of what the sink got when the connection is cut. */
const CUT_AT_BYTES = 64 * 1024 ** 2;

/** `ms`: how long the sink heard nothing. @throws Error when the transfer ends short or wrong */
export async function cutBout(contender: Contender, scope: AsyncDisposableStack, place: Place, parent: string): Promise<Figures> {
  const cutter = scope.use(await startProgram('streams/programs/cutter.ts'));
  const portTo = (hubPort: number): number => {
    cutter.send({ hubPort });
    return Number(cutter.ready['port']);
  };
  const line = await contender.start(scope, { ...place, portTo }, parent);
  line.order({ do: 'transfer', bytes: WARM_UP_BYTES });
  await line.hear<Transferred>('transfer to warm up');
  await line.askSink({ silence: true }, 'silence');
  line.order({ do: 'transfer', bytes: BYTES });
  await line.askSink({ hashed: CUT_AT_BYTES }, 'bytes before the cut');
  cutter.send({ cut: true });
  const { sent, got } = await line.hear<Transferred>('transfer with a cut');
  if (got !== sent) throw new Error(got === '' ? 'the stream ended short' : 'bytes were lost or doubled');
  const { silenceMs } = await line.askSink<{ silenceMs: number }>({ silence: true }, 'silence');
  return { ms: silenceMs };
}

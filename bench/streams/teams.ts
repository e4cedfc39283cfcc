/** How contenders' lines live: all the time of a contest, or anew for each bout. */
import type { Contenders, Figures, TakesPart } from '../contest.ts';
import { CONTENDERS, type Contender } from './contenders.ts';
import type { ContenderLine } from './line.ts';
import type { Place } from './place.ts';

export type PlaceOf = (scope: AsyncDisposableStack) => Promise<Place>;
export type Bout = (line: ContenderLine) => Promise<Figures>;

/**
 * Everybody's line stands from the beginning, and has had a bout to warm up. Who does not get so far fails its first bout. A line that has
 * failed a bout is taken down: it may go on sending what it has queued, on the wire of the others.
 */
export async function onStandingLines(parent: string, placeOf: PlaceOf, bout: Bout, takesPart: TakesPart): Promise<Contenders> {
  await using scope = new AsyncDisposableStack();
  const place = await placeOf(scope);
  const lines = CONTENDERS.filter(({ name }) => takesPart(name)).map((contender) => {
    const own = scope.use(new AsyncDisposableStack());
    return { name: contender.name, own, starting: settled(contender.start(own, place, parent)) };
  });
  const bouts: Record<string, () => Promise<Figures>> = {};
  for (const { name, own, starting } of lines) {
    const orTakeDown = async <T>(work: Promise<T>): Promise<T> => {
      try {
        return await work;
      } catch (error) {
        await own.disposeAsync();
        throw error;
      }
    };
    const warm = settled(orTakeDown(starting.then(async (line) => (await bout(line), line))));
    await warm.catch(() => {});
    bouts[name] = async () => orTakeDown(bout(await warm));
  }
  const all = scope.move();
  return { bouts, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** Each bout has a new line, since it leaves it as no other could use it. */
export async function eachOnNewLines(
  parent: string,
  placeOf: PlaceOf,
  bout: (contender: Contender, scope: AsyncDisposableStack, place: Place, parent: string) => Promise<Figures>,
  takesPart: TakesPart,
): Promise<Contenders> {
  await using scope = new AsyncDisposableStack();
  const place = await placeOf(scope);
  const bouts = CONTENDERS.filter(({ name }) => takesPart(name)).map((contender) => {
    const once = async (): Promise<Figures> => {
      await using own = new AsyncDisposableStack();
      // Awaited here: the line must not end before its bout.
      return await bout(contender, own, place, parent);
    };
    return [contender.name, once] as const;
  });
  const all = scope.move();
  return { bouts: Object.fromEntries(bouts), [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** A rejection that nobody waits for yet is none that nobody handles. */
function settled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/**
 * Writes to a hub's store and says what was answered: `store-writer.ts DATABASE SECONDS [FAILURES [ROOM]]`. Each line is `ack N` or
 * `fail N CODE`, for the entry N of the log and the record of that key; `loop MS` at the end is the longest time for which the event loop
 * stood still. It ends after SECONDS, but not before FAILURES writes have failed and as many have been answered since. ROOM is a file that is
 * removed between the two, to make room.
 */
import { rmSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import * as v from 'valibot';
import { openSqliteStore } from '../../../hub/store/sqlite-store.ts';
import { defineCollection, defineLog } from '../../../hub/store/store.ts';
import { toFairleadError } from '../../../shared/errors.ts';

const [path = '', seconds = '1', failures = '0', room] = process.argv.slice(2);
const AT_ONCE = 64;

const store = openSqliteStore(path);
// Tables that are there anyway.
const log = store.log(defineLog('rollout_log', v.number()));
const records = store.collection(defineCollection('tags', v.number()));
const text = 'x'.repeat(200);
const delay = monitorEventLoopDelay({ resolution: 5 });
// A pipe takes it before this returns.
const say = (line: string) => process.stdout.write(`${line}\n`);

let next = 0;
let toFail = Number(failures);
let toAnswer = toFail;
const endMs = performance.now() + Number(seconds) * 1000;
delay.enable();
async function writer(): Promise<void> {
  while (performance.now() < endMs || toFail > 0 || toAnswer > 0) {
    const number = next++;
    try {
      await Promise.all([log.append(text, [number]), records.put(String(number), number)]);
      say(`ack ${number}`);
      if (toFail <= 0) toAnswer -= 1;
    } catch (error) {
      say(`fail ${number} ${toFairleadError(error).code}`);
      toFail -= 1;
      if (toFail === 0 && room !== undefined) rmSync(room);
      // A disk that fails is not asked without end.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}
await Promise.all(Array.from({ length: AT_ONCE }, writer));
delay.disable();
say(`loop ${Math.round(delay.max / 1e6)}`);
say(`health ${store.health.ok}`);
await store.close();

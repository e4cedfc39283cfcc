/** A process that writes to a hub's store and is stopped by SIGSTOP in the middle, for as long as is asked for. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';
import { defineLog } from '../../hub/store/store.ts';

const WRITER = fileURLToPath(new URL('./programs/store-writer.ts', import.meta.url));
const LOG = defineLog('rollout_log', v.number());
/** Answered before it is stopped, and after it goes on. */
const ENOUGH = 200;

export interface StoppedWriter {
  readonly acknowledged: number;
  readonly failed: number;
  /** Acknowledged, and not there once or there twice. */
  readonly notOnce: number[];
}

export async function stopWriterFor(stoppedMs: number): Promise<StoppedWriter> {
  const directory = await mkdtemp(join(tmpdir(), 'store-stopped-'));
  try {
    const path = join(directory, 'hub.db');
    const child = spawn(process.execPath, [WRITER, path, String(60 + stoppedMs / 1000)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const acknowledged: number[] = [];
    let failed = 0;
    let wanted = ENOUGH;
    let isStopped = false;
    const goOn = async (): Promise<void> => {
      child.kill('SIGSTOP');
      await sleep(stoppedMs);
      wanted = acknowledged.length + ENOUGH;
      child.kill('SIGCONT');
    };
    for await (const line of createInterface({ input: child.stdout })) {
      const [word, number] = line.split(' ');
      if (word === 'ack') acknowledged.push(Number(number));
      if (word === 'fail') failed += 1;
      if (acknowledged.length < wanted) continue;
      wanted = Number.POSITIVE_INFINITY;
      if (isStopped) child.kill('SIGKILL');
      else void goOn();
      isStopped = true;
    }
    const store = openSqliteStore(path);
    const times = new Map<number, number>();
    for (const { value } of await store.log(LOG).read()) times.set(value, (times.get(value) ?? 0) + 1);
    await store.close();
    return { acknowledged: acknowledged.length, failed, notOnce: acknowledged.filter((number) => times.get(number) !== 1) };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

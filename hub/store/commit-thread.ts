/** Program of the thread that writes the store's file (committer.ts): takes batches one by one and tells what became of each. */
import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import type { CommitAnswer } from './committer.ts';
import { openForWriting } from './file.ts';
import { type Batch, BatchWriter } from './write.ts';

// SAFETY: started by committer.ts alone, with this.
const { path } = workerData as { readonly path: string };

const database = new DatabaseSync(path);
openForWriting(database);
const writer = new BatchWriter(database);

parentPort?.on('message', (message: Batch | 'close') => {
  if (message === 'close') {
    database.close();
    parentPort?.close();
    return;
  }
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- SAFETY: the rule means windows; a thread has no origin.
  parentPort?.postMessage(commit(message));
});

function commit(batch: Batch): CommitAnswer {
  try {
    writer.commit(batch);
    return undefined;
  } catch (error) {
    const errcode = error instanceof Error && 'errcode' in error ? Number(error.errcode) : undefined;
    return { message: error instanceof Error ? error.message : String(error), errcode };
  }
}

/**
 * Where batches are committed: `node:sqlite` is synchronous and a commit lasts as long as the disk needs for its sync, so that a file is
 * written by a thread of its own. What is only in memory needs none.
 */
import type { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { type Batch, BatchWriter } from './write.ts';

export interface Committer {
  /** One at a time. Resolves once it is durable, rejects when nothing of it has happened. */
  commit(batch: Batch): Promise<void>;
  close(): Promise<void>;
}

/** What the thread answers to a batch: undefined when it is durable, else why not. */
export type CommitAnswer = { readonly message: string; readonly errcode: number | undefined } | undefined;

/** A failure of SQLite's, with its code where it has one (sqlite.org/rescode.html). */
export class CommitFailed extends Error {
  readonly errcode: number | undefined;

  constructor(message: string, errcode: number | undefined) {
    super(message);
    this.name = 'CommitFailed';
    this.errcode = errcode;
  }
}

export function inlineCommitter(database: DatabaseSync): Committer {
  const writer = new BatchWriter(database);
  return { commit: async (batch) => writer.commit(batch), close: async () => {} };
}

// Node runs the source as it is; a build has it beside this file, compiled.
const PROGRAM = new URL(import.meta.url.endsWith('.ts') ? './commit-thread.ts' : './commit-thread.js', import.meta.url);

/** The thread has the only connection that writes to the file. */
export function threadCommitter(path: string): Committer {
  const thread = new Worker(PROGRAM, { workerData: { path }, name: 'store' });
  // It keeps the process for as long as something is being written.
  thread.unref();
  let pending: { resolve(): void; reject(error: Error): void } | undefined;
  let broken: Error | undefined;
  const settle = (error?: Error) => {
    const settled = pending;
    pending = undefined;
    thread.unref();
    if (error === undefined) settled?.resolve();
    else settled?.reject(error);
  };
  const fail = (error: Error) => {
    broken ??= error;
    settle(broken);
  };
  thread.on('message', (answer: CommitAnswer) => {
    settle(answer === undefined ? undefined : new CommitFailed(answer.message, answer.errcode));
  });
  thread.on('error', (error) => fail(error instanceof Error ? error : new Error(String(error))));
  const exited = new Promise<void>((resolve) => {
    thread.once('exit', () => {
      fail(new Error('the thread that writes the store has ended'));
      resolve();
    });
  });
  return {
    commit: (batch) => {
      if (broken !== undefined) return Promise.reject(broken);
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      pending = { resolve, reject };
      thread.ref();
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- SAFETY: the rule means windows; a thread has no origin.
      thread.postMessage(batch);
      return promise;
    },
    close: async () => {
      if (broken !== undefined) return;
      thread.ref();
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- SAFETY: the rule means windows; a thread has no origin.
      thread.postMessage('close');
      await exited;
    },
  };
}

/**
 * The audit: who did what to what, and how it ended. Every call has an entry in the store (events/audit-book.ts); one that changes something
 * has a line in the log besides.
 */
import type { JsonObject } from '../../shared/errors.ts';
import { redactSecrets } from '../../shared/redact.ts';
import type { AuditBook, NewAuditEntry } from '../events/audit-book.ts';
import type { HubLogger } from '../logger.ts';
import type { Caller } from './caller.ts';

const MAX_PARAMS_LENGTH = 500;
const MAX_TEXT_LENGTH = 80;

export interface AuditedCall {
  readonly method: string;
  readonly params: JsonObject;
  readonly host: string | undefined;
  readonly code: string;
  readonly durationMs: number;
  readonly commandId?: string | undefined;
}

export class Audit {
  readonly #logger: HubLogger;
  readonly #book: AuditBook;

  constructor(logger: HubLogger, book: AuditBook) {
    this.#logger = logger.child({ audit: true });
    this.#book = book;
  }

  /** A call that changes something: resolves once its entry is durable, or cannot be written. */
  async changed(caller: Caller, call: AuditedCall): Promise<void> {
    const { actor: tokenId, ...entry } = entryOf(caller, call);
    this.#logger.info({ ...entry, tokenId }, `${call.method} ended with ${call.code}`);
    await this.#book.changed({ ...entry, actor: tokenId });
  }

  read(caller: Caller, call: AuditedCall): void {
    this.#book.read(() => entryOf(caller, call));
  }

  async enrolment(fields: { host: string; tokenId?: string; address: string; code: string }): Promise<void> {
    const { host, tokenId = '', address, code } = fields;
    this.#logger.info(fields, `enrolment of ${host} ended with ${code}`);
    await this.#book.changed({ actor: tokenId, method: 'enrol', host, address, code, durationMs: 0, params: '{}' });
  }
}

function entryOf(caller: Caller, call: AuditedCall): NewAuditEntry {
  const { method, host, code, durationMs, commandId } = call;
  const { tokenId, role } = caller.principal;
  return {
    actor: tokenId,
    role,
    address: caller.address,
    method: method.slice(0, MAX_TEXT_LENGTH),
    ...(host === undefined ? {} : { host }),
    code,
    durationMs: Math.round(durationMs),
    ...(commandId === undefined ? {} : { commandId }),
    params: describeParams(call.params),
  };
}

/** Params as text for a log: secrets taken out, long things cut. */
export function describeParams(params: JsonObject): string {
  const text = JSON.stringify(params, (key, value: unknown) => {
    const shown = redactSecrets(key, value);
    return typeof shown === 'string' && shown.length > MAX_TEXT_LENGTH ? `${shown.slice(0, MAX_TEXT_LENGTH)}…` : shown;
  });
  return text.length > MAX_PARAMS_LENGTH ? `${text.slice(0, MAX_PARAMS_LENGTH)}…` : text;
}

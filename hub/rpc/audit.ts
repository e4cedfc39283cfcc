/** The audit line: who did what to what, and how it ended. Written once a call that changes something has ended; never the hot path. */
import type { JsonObject } from '../../shared/errors.ts';
import { redactSecrets } from '../../shared/redact.ts';
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
}

export class Audit {
  readonly #logger: HubLogger;

  constructor(logger: HubLogger) {
    this.#logger = logger.child({ audit: true });
  }

  call(caller: Caller, call: AuditedCall): void {
    const { method, host, code } = call;
    const { tokenId, role } = caller.principal;
    const fields = { method, host, code, durationMs: Math.round(call.durationMs), tokenId, role, address: caller.address };
    this.#logger.info({ ...fields, params: describeParams(call.params) }, `${method} ended with ${code}`);
  }

  enrolment(fields: { host: string; tokenId?: string; address: string; code: string }): void {
    this.#logger.info(fields, `enrolment of ${fields.host} ended with ${fields.code}`);
  }
}

/** Params as text for a log: secrets taken out, long things cut. */
export function describeParams(params: JsonObject): string {
  const text = JSON.stringify(params, (key, value: unknown) => {
    const shown = redactSecrets(key, value);
    return typeof shown === 'string' && shown.length > MAX_TEXT_LENGTH ? `${shown.slice(0, MAX_TEXT_LENGTH)}…` : shown;
  });
  return text.length > MAX_PARAMS_LENGTH ? `${text.slice(0, MAX_PARAMS_LENGTH)}…` : text;
}

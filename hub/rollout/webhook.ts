/**
 * Asks a webhook for its verdict: one POST, bounded in time and bytes. Only a plain 200 is an answer; whatever else comes, or does not come, is
 * inconclusive, for a check that cannot be made says nothing of the change. Redirects are not followed: what is asked is what the spec names.
 *
 * What goes wrong is told without the query of the address, where tokens are: viewers read it.
 */
import type { JsonObject } from '../../shared/errors.ts';
import type { Observation } from './actuator.ts';

const MAX_VERDICT_BYTES = 64 * 1024;
const MAX_REASON = 500;

export interface WebhookOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Never rejects. */
export async function askWebhook(url: string, body: JsonObject, options: WebhookOptions): Promise<Observation> {
  const { origin, pathname } = new URL(url);
  const { answer, detail } = await ask(url, body, options);
  return { answer, detail: detail === '' ? '' : `${origin}${pathname} ${detail}` };
}

async function ask(url: string, body: JsonObject, { timeoutMs, signal }: WebhookOptions): Promise<Observation> {
  const deadline = AbortSignal.timeout(timeoutMs);
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.any([signal, deadline]),
      redirect: 'manual',
    });
    if (response.status !== 200) {
      await response.body?.cancel();
      return inconclusive(`answered with status ${response.status}`);
    }
    const text = await boundedText(response);
    return text === undefined ? inconclusive(`answered with more than ${MAX_VERDICT_BYTES} bytes`) : verdictIn(text);
  } catch (error) {
    if (deadline.aborted) return inconclusive(`gave no answer within ${timeoutMs} ms`);
    return inconclusive(`could not be asked: ${causeOf(error)}`);
  }
}

/** Undefined when it is longer than a verdict may be; the rest is not read. */
async function boundedText({ body }: Response): Promise<string | undefined> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of body ?? []) {
    bytes += part.length;
    if (bytes > MAX_VERDICT_BYTES) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function verdictIn(text: string): Observation {
  if (text === '') return { answer: 'success', detail: '' };
  const said = parsed(text);
  const verdict = memberOf(said, 'verdict');
  if (verdict === 'success') return { answer: 'success', detail: '' };
  if (verdict !== 'failure' && verdict !== 'inconclusive')
    return inconclusive('answered neither success, failure nor inconclusive');
  const reason = memberOf(said, 'reason');
  const why = typeof reason === 'string' ? `: ${reason.slice(0, MAX_REASON).replaceAll(/\s+/g, ' ')}` : '';
  return { answer: verdict, detail: `says ${verdict}${why}` };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;
}

function inconclusive(detail: string): Observation {
  return { answer: 'inconclusive', detail };
}

/** `fetch` says of everything that it failed, and why in the cause. */
function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  if (!(cause instanceof Error)) return error.message;
  // Of several addresses that were tried, there is a code and no message.
  return cause.message !== '' || !('code' in cause) ? cause.message : String(cause.code);
}

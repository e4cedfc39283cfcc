/** What a rollout does in the world, behind one interface: everything else of it can be run on paper. */
import type { JsonObject } from '../../shared/errors.ts';
import type { Fence } from '../../shared/protocol/fence.ts';
import type { Answer } from './core/check-run.ts';

export interface CommandOptions {
  readonly commandId: string;
  readonly actor: string;
  readonly fence: Fence;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface Observation {
  readonly answer: Answer;
  /** Why it is no success. */
  readonly detail: string;
}

export interface ProbeOptions {
  readonly vm: string;
  readonly port: number;
  readonly send?: string | undefined;
  readonly expect?: string | undefined;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface Actuator {
  isUp(host: string): boolean;
  /** Resolves once the host has a line. @throws the signal's reason */
  whenUp(host: string, signal: AbortSignal): Promise<void>;
  /** One that changes something. @throws FairleadError what the host answers, or HOST_UNREACHABLE, INTERRUPTED of its line */
  command(host: string, method: string, params: JsonObject, options: CommandOptions): Promise<unknown>;
  /** One that only asks. @throws FairleadError likewise */
  ask(host: string, method: string, params: JsonObject, options: { timeoutMs: number; signal: AbortSignal }): Promise<unknown>;
  /** Never rejects. */
  probe(host: string, options: ProbeOptions): Promise<Observation>;
  /** Never rejects. */
  webhook(url: string, body: JsonObject, options: { timeoutMs: number; signal: AbortSignal }): Promise<Observation>;
}

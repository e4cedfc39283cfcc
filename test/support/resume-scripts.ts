/** Scripts for resume-model.ts, made up by fast-check. */
import * as fc from 'fast-check';
import type { SimOptions } from './fleet-sim.ts';
import type { Left, ResumeAction } from './resume-model.ts';

/** What a script must leave behind. */
export const nothingLeft: Left = { streams: 0, bytesPromised: 0, bytesWaiting: 0, relaysHeld: 0, timers: 0 };

const bytes = fc.oneof(
  fc.integer({ min: 1, max: 200 }),
  fc.integer({ min: 1, max: 40_000 }),
  fc.integer({ min: 1, max: 400_000 }),
);
const leg = fc.constantFrom('operator' as const, 'agent' as const);
const which = fc.nat(50);
const is = <K extends string>(kind: K) => fc.constant(kind);

const action: fc.Arbitrary<ResumeAction> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ kind: is('open') }) },
  { weight: 10, arbitrary: fc.record({ kind: is('move'), leg, toHub: bytes, fromHub: bytes }) },
  { weight: 8, arbitrary: fc.record({ kind: is('write'), which, bytes }) },
  { weight: 8, arbitrary: fc.record({ kind: is('read'), which, chunks: fc.integer({ min: 1, max: 8 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: is('end'), which }) },
  { weight: 1, arbitrary: fc.record({ kind: is('reset'), which }) },
  { weight: 3, arbitrary: fc.record({ kind: is('cut'), leg }) },
  { weight: 1, arbitrary: fc.record({ kind: is('switch'), leg }) },
  { weight: 1, arbitrary: fc.record({ kind: is('replace-hub') }) },
  { weight: 6, arbitrary: fc.record({ kind: is('dial'), leg }) },
);

export function resumeScripts(length: { minLength?: number; maxLength: number }): fc.Arbitrary<ResumeAction[]> {
  return fc.array(action, length);
}

const limits = fc.record({
  maxFrameBytes: fc.oneof(fc.constant(1024), fc.integer({ min: 1024, max: 65_535 })),
  maxMessageBytes: fc.oneof(fc.constant(8192), fc.integer({ min: 8192, max: 262_144 })),
});

/** Sides that take other frames and messages than each other. */
export const simLimits: fc.Arbitrary<Omit<SimOptions, 'onChannel'>> = fc.record({
  limits: fc.record({ operator: limits, hub: limits, agent: limits }),
  messageBytes: fc.integer({ min: 4096, max: 65_568 }),
});

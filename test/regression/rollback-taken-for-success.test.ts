/**
 * `fairlead rollout watch` ended with 0 for a rollout that a rule had taken back, so that a script went on as if the change were there; and nothing
 * but its journal said why a rollout had been aborted or taken back.
 */
import { describe, expect, it } from 'vitest';
import { isGood } from '../../cli/commands/rollout-watch.ts';
import { summaryLines } from '../../cli/rollout-text.ts';
import { figuresOf } from '../../hub/rollout/core/status.ts';
import { summaryOf } from '../../hub/rollout/rollout-book.ts';
import type { RolloutSpecInput } from '../../shared/protocol/rollout-spec.ts';
import { fleetOf, RolloutSim } from '../support/rollout-sim.ts';

const WIDE = { budget: { maxUnavailable: '100%', perZone: '100%' } } as const;

function simOf(spec: Partial<RolloutSpecInput>, failing?: string): RolloutSim {
  const sim = new RolloutSim(
    { ...WIDE, ...spec },
    fleetOf(5, 1, (index) => (`h${index}` === failing ? { behaviour: 'failed' } : {})),
  );
  sim.advance(500);
  return sim;
}

function toldOf(sim: RolloutSim) {
  const { id, spec, hosts } = sim.state;
  const record = { id, spec, startedBy: 'alice', startedAtMs: 0, status: sim.status, hosts: hosts.size };
  const summary = summaryOf(record, { figures: figuresOf(sim.state), seq: sim.log.length });
  return { ...summary, isGood: isGood(summary), line: new Map(summaryLines(summary)).get('stopped') };
}

describe('a rollout that was taken back', () => {
  it('is no success where a rule did it, and tells the rule', () => {
    const sim = simOf({ waves: [{ hosts: '100%' }], thresholds: [{ max: 0, action: 'rollback' }] }, 'h3').run();
    expect(toldOf(sim)).toMatchObject({ status: 'rolled-back', isGood: false, stopped: { by: 'threshold', isByPerson: false } });
    expect(toldOf(sim).line).toMatch(/^by threshold: 1 of \d hosts failed/);
  });

  it('is what a person wanted who said so', () => {
    const sim = simOf({});
    sim.order({ kind: 'rollback', except: [] }, 'bob', 'too slow');
    expect(toldOf(sim.run())).toMatchObject({ status: 'rolled-back', isGood: true, line: 'by bob: too slow' });
  });
});

describe('a rollout that was aborted', () => {
  it('tells who did it and why', () => {
    const sim = simOf({});
    sim.order({ kind: 'abort' }, 'bob', 'wrong fleet');
    expect(toldOf(sim.run())).toMatchObject({ status: 'aborted', isGood: false, line: 'by bob: wrong fleet' });
  });
});

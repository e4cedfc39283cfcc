/**
 * A budget of 0, and strict thresholds that are a share of few hosts, let no host ever be started: the plan answered a time without end, which is
 * no number in JSON, and the rollout waited for ever.
 */
import { describe, expect, it } from 'vitest';
import { checkSpec, checkStrictPlan } from '../../hub/rollout/check-spec.ts';
import { forecast } from '../../hub/rollout/core/forecast.ts';
import { planRollout } from '../../hub/rollout/core/plan.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { RolloutForecast } from '../../shared/protocol/rollout-plan.ts';
import { RolloutSpec, type RolloutSpecInput } from '../../shared/protocol/rollout-spec.ts';

const HOSTS = Array.from({ length: 25 }, (_, index) => ({
  host: `h${index}`,
  zone: index < 20 ? 'large' : 'small',
  agentVersion: '',
  hardware: '',
}));

function plannedAs(more: Partial<RolloutSpecInput>) {
  const spec = parseWith(RolloutSpec, { selector: {}, steps: [{ kind: 'vm' }], ...more }, 'spec');
  checkSpec(spec, 'operator');
  const plan = planRollout('r1', spec, HOSTS);
  checkStrictPlan(spec, plan);
  return parseWith(RolloutForecast, JSON.parse(JSON.stringify(forecast(spec, plan))), 'forecast');
}

describe('a rollout that could start no host', () => {
  it.each<[string, Partial<RolloutSpecInput>, RegExp]>([
    ['a budget of 0', { budget: { maxUnavailable: 0 } }, /budget.maxUnavailable.*0 could start no host/],
    ['a budget of 0 for each zone', { budget: { perZone: 0 } }, /budget.perZone/],
    ['a strict threshold of 0', { strict: true, thresholds: [{ max: 0 }] }, /none of the 25 hosts of this rollout/],
    ['a strict share that is none', { strict: true, thresholds: [{ max: '3%' }] }, /none of the 25 hosts of this rollout/],
    ['the same of a zone', { strict: true, thresholds: [{ max: '10%', of: 'zone' }] }, /none of the 5 hosts of zone small/],
    ['the same of the canary', { strict: true, thresholds: [{ max: '10%', of: 'wave' }] }, /none of the 1 hosts of wave 0/],
  ])('is refused when it is planned: %s', (_what, more, why) => {
    expect(() => plannedAs(more)).toThrow(why);
  });

  it('is not mistaken for one that can start some', () => {
    const thresholds = [
      { max: '20%' as const, of: 'zone' as const },
      { max: 1, of: 'wave' as const },
    ];
    expect(plannedAs({ strict: true, thresholds, budget: { maxUnavailable: '0%', perZone: 1 } }).worstUnavailable).toBe(1);
  });
});

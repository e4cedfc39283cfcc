/**
 * Whether significantly more hosts fail than is expected, looked at after every single one: Wald's sequential probability ratio test (A. Wald,
 * "Sequential Analysis", 1947, chapter 3) of "the share `tooMany` fails" against "the share `expected` fails".
 *
 * Each failure makes the ratio of the two likelihoods greater by the factor tooMany / expected, each other host smaller by
 * (1 - tooMany) / (1 - expected). The test trips when the ratio reaches 1 / falseAlarms. Where no more than the expected share fails, and one host
 * whatever the others do, the ratio gets there with a probability of `falseAlarms` at most, however often it is looked at (Ville's inequality), so there
 * is no end at which it accepts the change: it goes on as long as hosts do.
 *
 * Hosts under way count as ones that make it. Those that fail often end sooner than those that are watched for long, and of the first to
 * end too many would be failures; so counted, the ratio is never greater than that of the same hosts in the order of their starts.
 */
import type { Sequential } from '../../../shared/protocol/rollout-spec.ts';
import { fractionOf } from '../../../shared/protocol/rollout-values.ts';

/** Failures of `hosts` that do not trip it, at most. */
export function mostFailures({ expected, tooMany, falseAlarms }: Sequential, hosts: number): number {
  const [p0, p1] = [fractionOf(expected), fractionOf(tooMany)];
  const failed = Math.log(p1 / p0);
  const other = Math.log((1 - p1) / (1 - p0));
  const trips = Math.log(1 / fractionOf(falseAlarms));
  return Math.ceil((trips - hosts * other) / (failed - other)) - 1;
}

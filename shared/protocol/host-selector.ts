/** Which hosts are meant: those that are named, or all, and of them those that have the labels. */
import * as v from 'valibot';
import { Labels, Name } from './common.ts';

const MAX_HOSTS = 100_000;
/** The label that says in which failure domain a host stands. */
const ZONE_LABEL = 'zone';

export const HostSelection = v.strictObject({
  hosts: v.optional(v.pipe(v.array(Name), v.minLength(1), v.maxLength(MAX_HOSTS))),
  labels: v.optional(Labels, {}),
});
export type HostSelection = v.InferOutput<typeof HostSelection>;

export function hasLabels(labels: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}

export function isSelected(host: { host: string; labels: Readonly<Record<string, string>> }, selection: HostSelection): boolean {
  return (selection.hosts?.includes(host.host) ?? true) && hasLabels(host.labels, selection.labels);
}

/** Undefined for a host whose label does not say. */
export function zoneOf(labels: Readonly<Record<string, string>>): string | undefined {
  return labels[ZONE_LABEL];
}

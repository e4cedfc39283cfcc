/**
 * Symptom: `fairlead vm ls` said "no VM yet" while the host that had them was away. Cause: hosts without a line were left out in silence.
 */
import { expect, test } from 'vitest';
import type { HubConnection } from '../../cli/connection.ts';
import { allVms } from '../../cli/lists.ts';

test('a host that is away is told, not left out', async () => {
  const call = (): Promise<unknown> => Promise.resolve({ hosts: [{ host: 'edge', connected: false }] });
  // SAFETY: listing calls methods and nothing else of a connection.
  const hub = { call } as unknown as HubConnection;
  const told: string[] = [];
  expect(await allVms(hub, undefined, (host, error) => told.push(`${host}: ${String(error)}`))).toEqual([]);
  expect(told).toEqual(['edge: Error: it has no line to the hub']);
});

/**
 * Symptom: the packaged hub unit with the packaged configuration ended with EACCES where the key was root's alone.
 * Cause: the unit has a user of its own (DynamicUser), and the configuration named the key as root has it.
 */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse } from 'yaml';

const packaged = (name: string): string => readFileSync(new URL(`../../packaging/systemd/${name}`, import.meta.url), 'utf8');

test('each file of TLS in the packaged configuration is one that systemd hands to the unit', () => {
  const { tlsCert, tlsKey } = parse(packaged('hub.yaml')) as { tlsCert: string; tlsKey: string };
  const handed = [...packaged('fairlead-hub.service.d/tls.conf').matchAll(/^LoadCredential=([^:]+):/gm)].map(([, name]) => name);
  expect(packaged('fairlead-hub.service')).toMatch(/^DynamicUser=yes$/m);
  expect([tlsCert, tlsKey]).toEqual(handed.map((name) => `/run/credentials/fairlead-hub.service/${name}`));
});

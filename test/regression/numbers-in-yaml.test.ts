/**
 * Symptom: `forwardPorts: [8080]`, `vsockPorts: [1024]` and `qemuUser: 64055` in the agent's file were refused as numbers.
 * Cause: YAML makes numbers of them, and the settings are text, for a range is text.
 */
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseAgentConfig } from '../../agent/config.ts';

const configOf = (text: string) =>
  parseAgentConfig({ hub: 'wss://hub.example', host: 'edge-1', stateDir: '/var/lib/fairlead', ...parse(text) });

test('a port, a uid and a gid may stand in the file as they are', () => {
  const config = configOf('vsockPorts: [1024, 2000-2100]\nforwardPorts: 8080\nqemuUser: 64055\nqemuGroup: 0');
  expect(config).toMatchObject({
    vsockPorts: ['1024', '2000-2100'],
    forwardPorts: ['8080'],
    qemuUser: '64055',
    qemuGroup: '0',
  });
});

test.each([
  ['vsockPorts: [true]', /config\.vsockPorts.*: must be/],
  ['vsockPorts: [1.5]', /config\.vsockPorts\[0\]: must be/],
  ['vsockPorts: [-1]', /config\.vsockPorts\[0\]: must be a port/],
  ['qemuUser: [1]', /config\.qemuUser: must be text/],
])('%s is refused by its field', (text, message) => {
  expect(() => configOf(text)).toThrow(message);
});

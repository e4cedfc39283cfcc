/**
 * Symptom: a web page could read an agent's metrics and the address of its hub.
 * Cause: whoever asked was answered; a page whose name was made to lead to 127.0.0.1 counts as of the same origin (DNS rebinding).
 */
import { expect, test } from 'vitest';
import { createApp } from '../../agent/http/app.ts';

const app = createApp({ checks: [], metrics: async () => ({ contentType: 'text/plain', render: async () => 'secret' }) });
async function ask(host: string, headers: Record<string, string> = {}): Promise<number> {
  return (await app.request('/metrics', { headers: { host, ...headers } })).status;
}

test.each(['evil.example', 'evil.example:7081', '127.0.0.1.evil.example', '10.0.0.1:7081'])(
  '%s is not answered',
  async (host) => {
    expect(await ask(host)).toBe(403);
  },
);

test.each(['127.0.0.1:7081', 'localhost', '[::1]:7081'])('%s is', async (host) => {
  expect(await ask(host)).toBe(200);
  expect(await ask(host, { origin: 'https://evil.example' }), 'but no web page').toBe(403);
});

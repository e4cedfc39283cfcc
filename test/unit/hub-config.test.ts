/** Where the hub's configuration comes from, what wins, and what is refused. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hubUsage, parseHubConfig, readHubCommandLine } from '../../hub/config.ts';
import { parseAddress } from '../../shared/settings.ts';

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'hub-config-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

function file(content: string): string {
  const path = join(directory, `${Math.random().toString(36).slice(2)}.yaml`);
  writeFileSync(path, content);
  return path;
}

describe("the hub's configuration", () => {
  it('has a default for everything', () => {
    const { config } = readHubCommandLine([], { HOME: '/home/somebody' });
    expect(config).toMatchObject({ listen: '127.0.0.1:7080', insecure: false, allowedOrigins: [] });
    expect(config.dataDir).toBe('/home/somebody/.local/state/fairlead-hub');
  });

  it('takes flags over variables over the file', () => {
    const path = file('maxHosts: 10\nmaxOperators: 11\nmaxVmsPerHost: 12\nallowedOrigins: [https://a.example]\n');
    const env = { FAIRLEAD_HUB_MAX_HOSTS: '20', FAIRLEAD_HUB_MAX_OPERATORS: '21' };
    const { config } = readHubCommandLine(['--config', path, '--max-hosts', '30', '--behind-proxy'], env);
    expect(config).toMatchObject({ maxHosts: 30, maxOperators: 21, maxVmsPerHost: 12, behindProxy: true });
    expect(config.allowedOrigins).toEqual(['https://a.example']);
  });

  it('takes switches and lists from variables', () => {
    const env = { FAIRLEAD_HUB_BEHIND_PROXY: '1', FAIRLEAD_HUB_ALLOWED_ORIGINS: 'https://a.example,http://b.example:8080' };
    const { config } = readHubCommandLine([], env);
    expect(config.behindProxy).toBe(true);
    expect(config.allowedOrigins).toEqual(['https://a.example', 'http://b.example:8080']);
  });

  it.each([
    [['--max-hosts', '0'], 'maxHosts'],
    [['--max-hosts', 'many'], 'maxHosts'],
    [['--listen', 'everywhere'], 'listen'],
    [['--health-listen', 'everywhere'], 'healthListen'],
    [['--tls-cert', '/c.pem'], 'tlsCert and tlsKey go together'],
    [['--nonsense'], 'nonsense'],
    [['--allowed-origins', 'example.org'], 'allowedOrigins'],
  ])('refuses %j and says which value', (argv, message) => {
    expect(() => readHubCommandLine(argv, {})).toThrow(
      expect.objectContaining({ code: 'INVALID_PARAMS', message: expect.stringContaining(message) }),
    );
  });

  it('refuses a key of the file that it does not know', () => {
    expect(() => readHubCommandLine(['--config', file('maxHost: 1\n')], {})).toThrow('maxHost');
    expect(() => readHubCommandLine(['--config', file('- 1\n')], {})).toThrow('mapping');
    expect(() => readHubCommandLine(['--config', join(directory, 'missing.yaml')], {})).toThrow('ENOENT');
  });

  it('listens beyond loopback only with TLS or when told that plain is meant', () => {
    const config = { dataDir: ':memory:', listen: '0.0.0.0:7080' };
    expect(() => parseHubConfig(config)).toThrow('needs TLS');
    expect(() => parseHubConfig({ ...config, behindProxy: true })).toThrow('needs TLS');
    expect(parseHubConfig({ ...config, insecure: true }).insecure).toBe(true);
    expect(parseHubConfig({ ...config, tlsCert: '/c', tlsKey: '/k' }).tlsKey).toBe('/k');
    expect(parseHubConfig({ ...config, listen: '[::1]:0' }).listen).toBe('[::1]:0');
  });

  it('takes addresses apart', () => {
    expect(parseAddress('[::1]:7080')).toEqual({ host: '::1', port: 7080 });
    expect(parseAddress('localhost:0')).toEqual({ host: 'localhost', port: 0 });
    expect(parseAddress('127.0.0.1:70800')).toBeUndefined();
    expect(parseAddress('::1:7080')).toBeUndefined();
  });

  it('explains each flag', () => {
    expect(hubUsage()).toMatch(/--max-streams-per-host VALUE +streams into the guests of one host \(default 2048\)/);
  });
});

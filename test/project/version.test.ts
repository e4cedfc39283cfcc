import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { VERSION } from '../../shared/node/version.ts';

it('the release that the code states is the one of package.json, and the changelog starts with what is unreleased or with it', async () => {
  const root = new URL('../../', import.meta.url);
  const { version } = JSON.parse(await readFile(new URL('package.json', root), 'utf8')) as { version: string };
  expect(VERSION).toBe(version);
  const changelog = await readFile(new URL('CHANGELOG.md', root), 'utf8');
  expect(/^## (.+)$/m.exec(changelog)?.[1]).toMatch(new RegExp(`^(Unreleased|${version.replaceAll('.', '\\.')}\\b)`));
});

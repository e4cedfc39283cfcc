/** Links between the project's Markdown files lead to files that exist, and to headings that exist in them. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesBelow, listed, ROOT } from '../support/sources.ts';

const FILES = filesBelow(ROOT, /\.md$/);

/** Without code, where brackets are no links. */
function prose(file: string): string {
  return readFileSync(file, 'utf8')
    .replaceAll(/^(```|~~~)[\s\S]*?^\1/gm, '')
    .replaceAll(/^(?: {4}|\t).*$/gm, '')
    .replaceAll(/`[^`\n]*`/g, '');
}

/** Anchors as the usual renderers make them of headings, and those given by hand. */
function anchorsOf(file: string): Set<string> {
  const text = readFileSync(file, 'utf8');
  const headings = [...text.matchAll(/^#{1,6}\s+(.+?)\s*#*$/gm)].map((match) => slug(match[1] ?? ''));
  const given = [...text.matchAll(/<a id="([^"]+)"/g)].map((match) => match[1] ?? '');
  return new Set([...headings, ...given]);
}

function slug(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(/\s/g, '-');
}

function brokenLinks(file: string): string[] {
  return [...prose(file).matchAll(/\[[^\]]*\]\((?<target>[^()\s]+)(?:\s+"[^"]*")?\)/g)].flatMap((match) => {
    const target = match.groups?.['target'] ?? '';
    if (/^[a-z][a-z0-9+.-]*:/i.test(target)) return [];
    const [path = '', anchor] = target.split('#');
    const linked = path === '' ? file : join(dirname(file), decodeURIComponent(path));
    const isBroken = !existsSync(linked) || (anchor !== undefined && linked.endsWith('.md') && !anchorsOf(linked).has(anchor));
    return isBroken ? [`${relative(ROOT, file)}: ${target}`] : [];
  });
}

describe('the documentation', () => {
  it('has pages', () => {
    expect(FILES.length).toBeGreaterThan(1);
  });

  it('has no relative link that leads nowhere', () => {
    expect(listed(FILES.flatMap(brokenLinks))).toBe('');
  });
});

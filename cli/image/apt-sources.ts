/**
 * The machine's own package sources, read for one thing: the address of its Debian mirror.
 *
 * Fairlead names no server. Where the machine gets its own packages from is where the guest's parts come from too, so that a site with
 * a local mirror or a proxy needs no configuration here. Both formats of sources.list(5) are understood: one-line `.list` files and
 * deb822 `.sources` files.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface AptSource {
  readonly uri: string;
  readonly suite: string;
  readonly components: readonly string[];
  /** Path of the keyring that signs this source, where the source names one. */
  readonly signedBy: string | undefined;
}

/** Every enabled binary source of an apt configuration folder, in the order in which apt reads them. */
export function readAptSources(etcApt = '/etc/apt'): AptSource[] {
  const parts = join(etcApt, 'sources.list.d');
  const files = [join(etcApt, 'sources.list'), ...listFolder(parts).map((name) => join(parts, name))];
  return files.flatMap((file) => {
    if (file.endsWith('.list')) return parseOneLineSources(readText(file));
    if (file.endsWith('.sources')) return parseDeb822Sources(readText(file));
    return [];
  });
}

/** sources.list(5), "one-line-style format": `deb [option=value …] uri suite component…`. */
export function parseOneLineSources(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (match === null) continue;
    const [, options = '', uri = '', suite = '', components = ''] = match;
    const signedBy = /(?:^|\s)signed-by=(\S+)/i.exec(options)?.[1];
    sources.push({ uri, suite, components: words(components), signedBy: keyringPath(signedBy) });
  }
  return sources;
}

/** sources.list(5), "deb822-style format": stanzas of `Field: value`, parted by empty lines. */
export function parseDeb822Sources(text: string): AptSource[] {
  const withoutComments = text.replaceAll(/^#.*\n?/gm, '');
  return withoutComments.split(/\n\s*\n/).flatMap((stanza) => {
    const fields = parseFields(stanza);
    const enabled = !/^(no|false|0|off|without|disable)$/i.test(fields.get('enabled') ?? 'yes');
    if (!enabled || !words(fields.get('types') ?? '').includes('deb')) return [];
    const components = words(fields.get('components') ?? '');
    const signedBy = keyringPath(fields.get('signed-by'));
    return words(fields.get('uris') ?? '').flatMap((uri) =>
      words(fields.get('suites') ?? '').map((suite) => ({ uri, suite, components, signedBy })),
    );
  });
}

/**
 * The source of the machine's main Debian archive: the first that serves `main` of one of the given suites. Security, updates and
 * backports archives do not count, since they need not hold the other suites.
 */
export function findDebianMirror(sources: readonly AptSource[], suites: readonly string[]): AptSource | undefined {
  return sources.find(
    (source) => suites.includes(source.suite) && source.components.includes('main') && /^https?:|^file:/.test(source.uri),
  );
}

/** `Field: value` with continuation lines (deb-control(5)); names are folded to lower case. */
export function parseFields(stanza: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const [, name = '', value = ''] of stanza.matchAll(/^([^\s:#]+):[ \t]*(.*(?:\n[ \t].*)*)/gm)) {
    fields.set(name.toLowerCase(), value.trim());
  }
  return fields;
}

/** Signed-By may also hold a fingerprint or a whole key; only a path can be handed on. */
function keyringPath(signedBy: string | undefined): string | undefined {
  return signedBy?.startsWith('/') === true && !signedBy.includes('\n') ? signedBy : undefined;
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

function listFolder(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return []; // no such folder: a machine without apt, which then has no mirror either
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // sources.list is optional where sources.list.d is used, and the other way round
  }
}

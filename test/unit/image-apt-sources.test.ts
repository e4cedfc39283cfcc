import { describe, expect, test } from 'vitest';
import { findDebianMirror, parseDeb822Sources, parseFields, parseOneLineSources } from '../../cli/image/apt-sources.ts';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

describe('one-line sources', () => {
  test('are read with options, components and comments', () => {
    const text = `# the archive
deb [arch=amd64 signed-by=${KEYRING}] http://mirror.example/debian bookworm main contrib # ours
  deb http://mirror.example/debian-security bookworm-security main
deb-src http://mirror.example/debian bookworm main
#deb http://old.example/debian bullseye main
`;
    expect(parseOneLineSources(text)).toEqual([
      { uri: 'http://mirror.example/debian', suite: 'bookworm', components: ['main', 'contrib'], signedBy: KEYRING },
      { uri: 'http://mirror.example/debian-security', suite: 'bookworm-security', components: ['main'], signedBy: undefined },
    ]);
  });
});

describe('deb822 sources', () => {
  test('give one source for each address and suite', () => {
    const text = `Types: deb deb-src
# a comment between fields
URIs: http://a.example/debian http://b.example/debian
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: ${KEYRING}
`;
    expect(parseDeb822Sources(text).map(({ uri, suite }) => `${uri} ${suite}`)).toEqual([
      'http://a.example/debian bookworm',
      'http://a.example/debian bookworm-updates',
      'http://b.example/debian bookworm',
      'http://b.example/debian bookworm-updates',
    ]);
  });

  test('leave out what is disabled or for sources only', () => {
    const stanza = 'URIs: http://a.example/debian\nSuites: bookworm\nComponents: main\n';
    expect(parseDeb822Sources(`Types: deb\nEnabled: no\n${stanza}\nTypes: deb-src\n${stanza}`)).toEqual([]);
  });

  test('hand on a keyring only as a path, not as a key in the file', () => {
    const text =
      'Types: deb\nURIs: http://a.example/\nSuites: sid\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n';
    expect(parseDeb822Sources(text)[0]?.signedBy).toBeUndefined();
  });
});

test('the Debian mirror is the first main archive of a wanted suite', () => {
  const sources = parseOneLineSources(`deb http://other.example/apt stable tools
deb http://mirror.example/debian-security bookworm-security main
deb cdrom:[Debian]/ bookworm main
deb http://mirror.example/debian bookworm main`);
  expect(findDebianMirror(sources, ['bookworm', 'stable'])?.uri).toBe('http://mirror.example/debian');
  expect(findDebianMirror(sources, ['jammy'])).toBeUndefined();
});

test('fields of a stanza keep their continuation lines', () => {
  expect(parseFields('Package: socat\nDepends: libc6,\n libssl3\nSize: 12')).toEqual(
    new Map([
      ['package', 'socat'],
      ['depends', 'libc6,\n libssl3'],
      ['size', '12'],
    ]),
  );
});

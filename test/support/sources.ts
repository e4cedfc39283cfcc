/**
 * The project's own TypeScript files, their imports, and their text with comments and strings blanked out, for the tests of project
 * rules. A small scanner rather than a parser: it knows strings, templates, comments and regular expressions, which is what it takes
 * not to see an import or a cast where there is none.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

export const ROOT = join(import.meta.dirname, '../..');
const FOLDERS = ['agent', 'bench', 'bin', 'cli', 'client', 'hub', 'native', 'scripts', 'shared', 'test'];
const SKIPPED = new Set(['node_modules', 'dist', 'build', '.cache']);

export interface Import {
  /** As written. */
  readonly specifier: string;
  /** Path from the root for a relative one, else undefined. */
  readonly path: string | undefined;
  /** `node:fs`, `@scope/name` or `name` for what is not relative. */
  readonly package: string | undefined;
  readonly isTypeOnly: boolean;
  /** Loaded when the code runs into it, by `import()`. */
  readonly isLazy: boolean;
  readonly line: number;
}

export interface Source {
  /** From the root of the project, with `/`. */
  readonly path: string;
  readonly lines: readonly string[];
  /** The same lines with the contents of comments, strings and regular expressions replaced by blanks. */
  readonly codeLines: readonly string[];
  readonly imports: readonly Import[];
}

export function readSources(folders: readonly string[] = FOLDERS): Source[] {
  return folders.flatMap((folder) => filesBelow(join(ROOT, folder), /\.ts$/)).map(readSource);
}

/** Files whose name fits, below a folder that may be missing. */
export function filesBelow(folder: string, name: RegExp): string[] {
  const entries = readdirSync(folder, { withFileTypes: true, recursive: false });
  return entries.flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return SKIPPED.has(entry.name) ? [] : filesBelow(path, name);
    return name.test(entry.name) ? [path] : [];
  });
}

function readSource(file: string): Source {
  const text = readFileSync(file, 'utf8');
  const code = blankOut(text);
  const path = relative(ROOT, file);
  return { path, lines: text.split('\n'), codeLines: code.split('\n'), imports: findImports(path, text, code) };
}

/** `import … from 'x'`, `export … from 'x'`, `import 'x'`, `import('x')`. */
const IMPORT =
  /(?<![\w.$])(?:(?<keyword>import|export)(?<type>\s+type\b)?(?<clause>[^'"();=]*?)(?<quote>['"])|import\s*\(\s*(?<lazy>['"]))/g;

/** Found in the blanked code, where quotes are still in their places, and read from the text. */
export function findImports(path: string, text: string, code: string): Import[] {
  return [...code.matchAll(IMPORT)].flatMap((match) => {
    const { keyword, type, clause = '', quote = match.groups?.['lazy'] } = match.groups ?? {};
    const isLazy = keyword === undefined;
    if (!isLazy && !isFromClause(keyword, clause)) return [];
    const start = match.index + match[0].length;
    const specifier = text.slice(start, text.indexOf(quote ?? "'", start));
    const isRelative = specifier.startsWith('.');
    const names = /^\s*\{(?<names>[^}]*)\}\s*from\s*$/.exec(clause)?.groups?.['names'];
    const areAllTypes =
      names !== undefined && names.split(',').every((name) => name.trim() === '' || name.trim().startsWith('type '));
    return [
      {
        specifier,
        path: isRelative ? join(dirname(path), specifier) : undefined,
        package: isRelative ? undefined : packageOf(specifier),
        isTypeOnly: type !== undefined || areAllTypes,
        isLazy,
        line: text.slice(0, match.index).split('\n').length,
      },
    ];
  });
}

/** Everything between the keyword and the quote: nothing (`import 'x'`) or something that ends with `from`. */
function isFromClause(keyword: string | undefined, clause: string): boolean {
  return /\bfrom\s*$/.test(clause) || (keyword === 'import' && clause.trim() === '');
}

function packageOf(specifier: string): string {
  if (specifier.startsWith('node:')) return specifier;
  const parts = specifier.split('/');
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? specifier);
}

/**
 * Tokens whose inside is no code. A `/` starts a regular expression where a value cannot have ended just before it. Templates are taken
 * whole, `${…}` included: code in there is not looked at.
 */
const OPAQUE =
  /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\[\s\S])*`|(?<=(?:^|[=([,{;:!&|?+\-*%<>~^\n]|=>|\breturn|\btypeof|\bcase)\s*)\/(?![/*])(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[dgimsuvy]*/g;

export function blankOut(text: string): string {
  return text.replaceAll(OPAQUE, (token) => {
    const edge = token.startsWith('/') ? ' ' : (token[0] ?? ' ');
    const inner = token.slice(1, -1).replaceAll(/[^\n]/g, ' ');
    return `${edge}${inner}${edge}`;
  });
}

/** For assertion messages: one offender a line. */
export function listed(offenders: readonly string[]): string {
  return offenders.length === 0 ? '' : `\n  ${offenders.join('\n  ')}\n`;
}

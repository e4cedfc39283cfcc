/**
 * Every QMP command and event that the agent uses has a row that is checked against QEMU's own schema (test/unit/qmp-commands.test.ts).
 * The compiler sees to that wherever `execute` and `listen` are typed; here is what it cannot see.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { QMP_COMMANDS } from '../../agent/qmp/commands.ts';
import { listed, ROOT, readSources } from '../support/sources.ts';

const SOURCES = readSources(['agent', 'hub', 'cli', 'shared']);

/** Takes any name of a command: the client itself, the typed call over it, and `vm.qmp`, which asks the host's policy. */
const UNTYPED = ['agent/qmp/commands.ts: runner', 'agent/vm/supervisor.ts: qmp'];
/** Typed by the table of commands. */
const TYPED = ['vm', 'target'];

describe('QMP commands', () => {
  it('are given by typed calls only, but for the two places that everything goes through', () => {
    const found = SOURCES.flatMap(({ path, codeLines }) =>
      codeLines.flatMap((line) => {
        const receiver = /(\w+)(?:\(\))?\??\.execute\(/.exec(line)?.[1];
        return receiver === undefined || TYPED.includes(receiver) ? [] : [`${path}: ${receiver}`];
      }),
    );
    expect(found).toEqual(UNTYPED);
  });

  it('that are written out as messages have a row', () => {
    const ours = new Set([...Object.keys(QMP_COMMANDS), 'qmp_capabilities']);
    const found = SOURCES.flatMap(({ path }) =>
      [...readFileSync(join(ROOT, path), 'utf8').matchAll(/["']?\b(?:execute|exec-oob)["']?:\s*["']([^"']+)["']/g)]
        // The guest's agent speaks a protocol of its own.
        .filter(([, name = '']) => !ours.has(name) && !name.startsWith('guest-'))
        .map(([, name]) => `${path}: ${name}`),
    );
    expect(listed(found)).toBe('');
  });

  it('and other features are never chosen by the number of a version of QEMU', () => {
    // Whether two versions are the same may be asked: a snapshot is of one.
    const comparison =
      /\b(?:qemuVersion|major|minor|micro)\b\s*[<>]|[<>]=?\s*(?:\w+\.)*(?:qemuVersion|major|minor|micro)\b|\b(?:major|minor|micro)\b\s*[!=]==/;
    const found = SOURCES.filter(({ path }) => path.startsWith('agent/')).flatMap(({ path, codeLines }) =>
      codeLines.flatMap((line, index) => (comparison.test(line) ? [`${path}:${index + 1} ${line.trim()}`] : [])),
    );
    expect(listed(found)).toBe('');
  });
});

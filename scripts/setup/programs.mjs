/** Programs of the machine: what is missing on PATH comes from Debian packages where that is possible. */
import { readFileSync } from 'node:fs';
import { hasProgram, run, SetupError, say, tail } from './step.mjs';

/** Program to Debian package. Without the optional ones things still work, only less of them. */
const NEEDED = {
  demo: { 'qemu-system-x86_64': 'qemu-system-x86', 'qemu-img': 'qemu-utils' },
  test: { 'qemu-system-x86_64': 'qemu-system-x86', 'qemu-img': 'qemu-utils', mke2fs: 'e2fsprogs' },
};
const OPTIONAL = { 'g++': 'g++', make: 'make', python3: 'python3' };

const APT_LOCK_TIMEOUT_S = 300;

export async function installPrograms(mode) {
  const needed = missing(NEEDED[mode]);
  const optional = missing(OPTIONAL);
  if (needed.length + optional.length === 0) return;
  const problem = await install([...needed, ...optional].map(([, name]) => name));
  const stillNeeded = missing(NEEDED[mode]);
  if (stillNeeded.length > 0) throw new SetupError(explain(stillNeeded, problem));
  const stillOptional = missing(OPTIONAL);
  if (stillOptional.length > 0) say(`warning: ${explain(stillOptional, problem)}`);
}

function missing(programs) {
  return Object.entries(programs).filter(([program]) => !hasProgram(program));
}

/** Gives the reason why nothing could be installed, or undefined. */
async function install(names) {
  if (!isDebian()) return 'this is not Debian';
  const asRoot = await rootPrefix();
  if (asRoot === undefined) return 'this is not root, and sudo is not there or asks for a password';
  say(`installing ${names.join(', ')} from Debian packages`);
  const asRootRun = (...command) => {
    const [program, ...args] = [...asRoot, 'env', 'DEBIAN_FRONTEND=noninteractive', ...command];
    return run(program, args);
  };
  // A machine that has just started may be busy with its own updates.
  const apt = ['apt-get', '-q', '-o', `DPkg::Lock::Timeout=${APT_LOCK_TIMEOUT_S}`];
  const installNames = () => asRootRun(...apt, 'install', '-y', '--no-install-recommends', ...names);
  if ((await installNames()).ok) return undefined;
  // No package lists yet, or old ones that name versions which the mirror has replaced, or an earlier installation was cut short.
  const update = await asRootRun(...apt, 'update', '--error-on=any');
  await asRootRun('dpkg', '--configure', '-a');
  const second = await installNames();
  return second.ok ? undefined : `apt-get: ${firstError(update.ok ? second.output : update.output)}`;
}

/** apt marks its errors with `E:`; the first says most. */
function firstError(output) {
  return /^E: (.*)/m.exec(output)?.[1]?.replaceAll(/\s+/g, ' ') ?? tail(output, 1);
}

function explain(programs, problem) {
  const names = programs.map(([program]) => program).join(', ');
  const packages = programs.map(([, name]) => name).join(' ');
  const how = isDebian()
    ? `run "sudo apt-get install --no-install-recommends ${packages}"`
    : `install what your distribution calls ${packages}`;
  return `missing: ${names}, and could not be installed (${problem ?? 'the packages do not hold them'}): ${how}`;
}

/** What to put before a command so that root runs it, or undefined where that takes a password. */
async function rootPrefix() {
  if (process.getuid?.() === 0) return [];
  return hasProgram('sudo') && (await run('sudo', ['-n', 'true'])).ok ? ['sudo', '-n'] : undefined;
}

/** os-release(5). Derivatives count: their packages have the same names. */
function isDebian() {
  try {
    const release = readFileSync('/etc/os-release', 'utf8');
    return /^ID(_LIKE)?=.*\bdebian\b/m.test(release) && hasProgram('apt-get');
  } catch {
    return false;
  }
}

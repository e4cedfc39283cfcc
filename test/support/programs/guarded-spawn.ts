/** An agent as far as spawning goes: starts the program of its arguments in a group that lets nobody in until it is told to. */
import { inheritedDescriptors, spawnGuarded } from '../../../agent/vm/confinement/guarded-spawn.ts';

const [how, binary = '', ...argv] = process.argv.slice(2);
const admit = (pid: number): void => {
  process.stdout.write(`${pid}\n`);
  if (how === 'die') process.kill(process.pid, 'SIGKILL');
};
spawnGuarded({
  binary,
  argv,
  env: {},
  input: 'none',
  descriptors: [1, 2],
  guard: { user: undefined, cgroup: { admit }, oomScoreAdj: undefined, strangers: inheritedDescriptors() },
});

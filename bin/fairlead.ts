/**
 * The one executable's entry. It looks at the first word only and loads what that needs, so that an agent never loads hub or
 * command-line code.
 */
async function run(argv: readonly string[]): Promise<number> {
  const [verb, ...rest] = argv;
  if (verb === 'agent') return (await import('../agent/main.ts')).runAgent(rest);
  if (verb === 'launch') return (await import('../agent/launcher/launcher.ts')).runLauncher(rest);
  if (verb === 'hub') return (await import('../hub/main.ts')).runHub(rest);
  if (verb === 'up') return (await import('./up.ts')).runUp(rest);
  if (verb === 'down') return (await import('./down.ts')).runDown(rest);
  if (verb === 'sim') return (await import('../agent/sim/main.ts')).runSim(rest);
  if (verb === 'sim-worker') return (await import('../agent/sim/worker.ts')).runSimWorker();
  return (await import('../cli/main.ts')).runCli(argv);
}

// Not process.exit(): output that is still on its way to a pipe would be lost. Whatever keeps the loop alive is a fault to be seen.
process.exitCode = await run(process.argv.slice(2));

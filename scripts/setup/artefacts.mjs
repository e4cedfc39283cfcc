/** The guest image and the fetched programs, built by the project's own TypeScript, which only the project's Node can run. */
import { join } from 'node:path';
import { PROJECT_DIR, projectNode, run, SetupError } from './step.mjs';

export async function buildArtefacts(mode) {
  const { ok } = await run(projectNode(), [join(PROJECT_DIR, 'scripts', 'artefacts.ts'), mode], { show: true });
  if (!ok)
    throw new SetupError(`could not build what ${mode === 'test' ? 'the tests need' : 'the demo needs'}; the reason is above`);
}

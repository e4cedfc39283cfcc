/** The generated pages of docs/reference, by path from the root of the project. */
import { generateOpenRpc } from '../../shared/protocol/openrpc.ts';
import { configurationPage } from './configuration-page.ts';
import { errorsPage } from './errors-page.ts';
import { methodsPage } from './methods-page.ts';

export function referencePages(): ReadonlyMap<string, string> {
  const document = generateOpenRpc();
  return new Map([
    ['docs/reference/openrpc.json', `${JSON.stringify(document, null, 2)}\n`],
    ['docs/reference/methods.md', methodsPage(document)],
    ['docs/reference/errors.md', errorsPage()],
    ['docs/reference/configuration.md', configurationPage()],
  ]);
}

/** Methods about tokens. */
import type { TOKEN_METHODS } from '../../../shared/protocol/methods-token.ts';
import type { TokenService } from '../../auth/tokens.ts';
import type { HubHandlersOf } from './types.ts';

export function tokenHandlers(tokens: TokenService): HubHandlersOf<typeof TOKEN_METHODS> {
  return {
    'token.create': (params) => tokens.create(params),
    'token.list': () => tokens.list(),
    'token.revoke': async ({ id }) => {
      await tokens.revoke(id);
      return {};
    },
  };
}

/** Methods that tell of the commands that this host keeps in its journal. */
import { FairleadError } from '../../../shared/errors.ts';
import type { OPERATION_METHODS } from '../../../shared/protocol/methods-operation.ts';
import type { Once } from '../once.ts';
import type { HandlersOf } from './types.ts';

export type OperationBook = Pick<Once, 'find' | 'list'>;

export function operationHandlers(operations: OperationBook): HandlersOf<typeof OPERATION_METHODS> {
  return {
    'op.get': async ({ id }) => {
      const operation = await operations.find(id);
      if (operation !== undefined) return operation;
      throw new FairleadError('NOT_FOUND', `this host keeps no command ${id}: it never came here, or is more than a day old`);
    },
    'op.list': (query) => operations.list(query),
  };
}

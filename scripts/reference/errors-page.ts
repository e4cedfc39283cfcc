/** docs/reference/errors.md out of the error table. */
import { ERROR_CODES, ERROR_TABLE } from '../../shared/protocol/error-table.ts';
import { table } from './type-text.ts';

const EXIT_CODES: readonly (readonly [number, string])[] = [
  [0, 'done'],
  [1, 'failed'],
  [2, 'wrong usage: an unknown option, a wrong parameter'],
  [3, 'no such host, VM, token or file'],
  [4, 'conflict: it exists already, or its state does not allow this'],
  [5, 'hub or host not reachable'],
  [124, 'no answer within the deadline'],
  [130, 'interrupted by the user'],
];

export function errorsPage(): string {
  return [
    '# Errors',
    '',
    'Made from the error table by `node scripts/generate-docs.ts`; do not edit.',
    '',
    'Match on the code. It keeps its name, its numbers and its meaning in all later versions; the message is for people and may change.',
    'Over JSON-RPC an error is `{code: <number>, message, data: {code: <name>, retryable, details?}}`. The numbers of the standard are',
    'negative; ours are positive, outside the range that JSON-RPC 2.0 reserves.',
    '',
    '`retryable` says that the same call may succeed later without anybody changing anything. After TIMEOUT and INTERRUPTED it may also',
    'have taken effect already: before a method that is not idempotent is called again, look.',
    '',
    ...table(
      ['code', 'meaning', 'JSON-RPC', 'HTTP', 'exit code', 'retryable'],
      ERROR_CODES.map((code) => {
        const { rpc, http, exit, retryable, meaning } = ERROR_TABLE[code];
        return [
          `<a id="${code.toLowerCase()}"></a>${code}`,
          meaning,
          String(rpc),
          String(http),
          String(exit),
          retryable ? 'yes' : 'no',
        ];
      }),
    ),
    '',
    '## Exit codes of the command line',
    '',
    ...table(
      ['exit code', 'meaning', 'codes'],
      EXIT_CODES.map(([exit, meaning]) => [
        String(exit),
        meaning,
        ERROR_CODES.filter((code) => ERROR_TABLE[code].exit === exit).join(', '),
      ]),
    ),
    '',
  ].join('\n');
}

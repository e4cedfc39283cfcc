/** `fairlead token create enrol|operator`, `ls`, `revoke`. */
import { type Command, Option } from 'commander';
import type { Result } from '../../shared/protocol/methods.ts';
import { type App, withHub } from '../app.ts';
import { parseDuration } from '../duration.ts';
import { parseInteger } from '../integer.ts';
import { age } from '../output.ts';
import { collectLabels } from '../vm-spec-options.ts';

interface EnrolOptions {
  readonly ttl?: number;
  readonly uses?: number;
  readonly label?: Record<string, string>;
  readonly description?: string;
}

interface OperatorOptions {
  readonly role: 'viewer' | 'operator' | 'admin';
  readonly ttl?: number;
  readonly description?: string;
}

export function registerToken(program: Command, app: App): void {
  const token = program.command('token').description('tokens that let hosts enrol and operators in');
  const create = token.command('create').description('make a token; its secret is shown this once');

  create
    .command('enrol')
    .description('a token with which a host enrols')
    .option('--ttl <duration>', 'how long it may be used, at most 1h', parseDuration)
    .option('--uses <count>', 'how many hosts may use it', parseInteger)
    .option('--label <key=value>', 'label that the host gets (may be repeated)', collectLabels)
    .option('--description <text>', 'what it is for')
    .action(async (options: EnrolOptions, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const made = await hub.call('token.create', {
          kind: 'enrol',
          ...(options.ttl !== undefined && { ttlMs: options.ttl }),
          ...(options.uses !== undefined && { maxUses: options.uses }),
          ...(options.label !== undefined && { labels: options.label }),
          ...(options.description !== undefined && { description: options.description }),
        });
        printToken(made, output.format === 'table', (text) => output.data(text));
      }),
    );

  create
    .command('operator')
    .description('a token for a person or a program')
    .addOption(new Option('--role <role>', 'what it may do').choices(['viewer', 'operator', 'admin']).default('operator'))
    .option('--ttl <duration>', 'how long it is valid', parseDuration)
    .option('--description <text>', 'what it is for')
    .action(async (options: OperatorOptions, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const made = await hub.call('token.create', {
          kind: 'operator',
          role: options.role,
          ...(options.ttl !== undefined && { ttlMs: options.ttl }),
          ...(options.description !== undefined && { description: options.description }),
        });
        printToken(made, output.format === 'table', (text) => output.data(text));
      }),
    );

  token
    .command('ls')
    .alias('list')
    .description('tokens that exist, without their secrets')
    .action(async (_options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const { tokens } = await hub.call('token.list', {});
        const now = Date.now();
        output.list(
          tokens,
          [
            { title: 'ID', value: (row) => row.id },
            { title: 'KIND', value: (row) => row.kind },
            { title: 'ROLE', value: (row) => row.role },
            { title: 'AGE', value: (row) => age(row.createdAt, now) },
            { title: 'EXPIRES', value: (row) => row.expiresAt },
            { title: 'USES LEFT', value: (row) => row.usesLeft },
            { title: 'REVOKED', value: (row) => (row.revoked ? 'yes' : 'no') },
            { title: 'DESCRIPTION', value: (row) => row.description },
          ],
          { name: (row) => row.id, empty: 'no tokens' },
        );
      }),
    );

  token
    .command('revoke <id>')
    .description('make a token worthless from now on')
    .action(async (id: string, _options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        await hub.call('token.revoke', { id });
        output.say(`token ${id} is revoked`);
      }),
    );
}

/** The bare secret on its own line, so that `$(fairlead token create …)` works; everything about it in JSON. */
function printToken(made: Result<'token.create'>, bare: boolean, write: (text: string) => void): void {
  write(bare ? `${made.token}\n` : `${JSON.stringify(made, null, 2)}\n`);
}

/**
 * Records what a QEMU answers to `query-qmp-schema`, for the tests of test/unit/qmp-commands.test.ts:
 *
 *     node test/support/record-qmp-schema.ts [binary [argument…]] > test/support/qmp-schema/qemu-10.0.json.gz
 *
 * The version and the schema as they come, as gzip: 190 to 220 KB become 25. Types of the schema have numbers for names, which
 * differ between builds; only what is reached from a command's name means anything.
 */
import { gzipSync } from 'node:zlib';
import { QmpClient } from '../../agent/qmp/client.ts';
import { startQemuMonitor } from './qemu-monitor.ts';

const [binary = 'qemu-system-x86_64', ...args] = process.argv.slice(2);
await using qemu = await startQemuMonitor({ binary, args });
await using client = await QmpClient.connect({ path: qemu.path });
const schema = await client.execute('query-qmp-schema');
process.stdout.write(gzipSync(JSON.stringify({ version: client.greeting.version, schema }), { level: 9 }));

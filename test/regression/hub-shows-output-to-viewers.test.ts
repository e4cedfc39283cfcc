/**
 * Symptom: whoever may only look at a fleet could read what operators' programs in guests wrote, and administrators' raw QMP commands.
 * Cause: the record of a command, with its params and its result, was for everybody who may look.
 */
import { expect, test } from 'vitest';
import { addTestHost } from '../support/test-agent.ts';
import { startTestHub } from '../support/test-hub.ts';

const RECORDS: Readonly<Record<string, object>> = {
  exec: {
    id: 'exec',
    method: 'guest.exec',
    actor: 'ops',
    state: 'done',
    params: { args: ['-psecret'] },
    result: { stdout: 'secret' },
  },
  qmp: { id: 'qmp', method: 'vm.qmp', actor: 'root', state: 'done', params: { execute: 'secret' }, result: 'secret' },
  unknown: { id: 'unknown', method: 'vm.future', actor: 'root', state: 'done', result: 'secret' },
};

test('the record of a command shows its params and its result to those who could have given it', async () => {
  await using hub = await startTestHub();
  await using _agent = await addTestHost(hub, 'h1', {
    methods: { 'op.get': ({ id }) => (typeof id === 'string' ? RECORDS[id] : undefined) },
  });
  const tokenOf = async (role: string) =>
    String((await hub.post('token.create', { kind: 'operator', role })).body.result?.['token']);
  const [viewer, operator] = [await tokenOf('viewer'), await tokenOf('operator')];
  const shown = async (id: string, token?: string) => (await hub.post('op.get', { host: 'h1', id }, token)).body.result;

  expect(await shown('exec', viewer)).toEqual({ id: 'exec', method: 'guest.exec', actor: 'ops', state: 'done' });
  expect(await shown('exec', operator)).toEqual(RECORDS['exec']);
  expect(await shown('qmp', operator)).toEqual({ id: 'qmp', method: 'vm.qmp', actor: 'root', state: 'done' });
  expect(await shown('unknown', operator)).not.toHaveProperty('result');
  for (const id of Object.keys(RECORDS)) expect(await shown(id)).toEqual(RECORDS[id]);
});

import { expect, test } from 'vitest';
import { thrown } from '../support/inspect.ts';
import { describeNative } from '../support/native.ts';
import { notifySink } from '../support/notify-sink.ts';

describeNative('sdNotify', (api) => {
  test('sends one datagram to a socket with a path', async () => {
    await using sink = await notifySink('notify.sock');
    api.sdNotify('READY=1', sink.path);
    api.sdNotify('STATUS=drei Gäste', sink.path);
    expect(await sink.next()).toBe('READY=1');
    expect(await sink.next()).toBe('STATUS=drei Gäste');
  });

  test('sends to an abstract name', async () => {
    await using sink = await notifySink(`@fairlead-test-${process.pid}`);
    api.sdNotify('WATCHDOG=1', sink.path);
    expect(await sink.next()).toBe('WATCHDOG=1');
  });

  test('says who cannot be reached and why', () => {
    expect(thrown(() => api.sdNotify('READY=1', '/nonexistent/notify'))).toMatchObject({
      code: 'ENOENT',
      syscall: 'sendto',
      message: 'could not notify the service manager at /nonexistent/notify: ENOENT (No such file or directory)',
    });
    expect(thrown(() => api.sdNotify('READY=1', '@fairlead-test-nobody')).code).toBe('ECONNREFUSED');
    expect(thrown(() => api.sdNotify('READY=1', 'vsock:2:9999')).code).toBe('EAFNOSUPPORT');
    expect(thrown(() => api.sdNotify('READY=1', `/${'x'.repeat(200)}`)).code).toBe('ENAMETOOLONG');
  });
});

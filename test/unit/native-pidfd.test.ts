import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { afterEach, expect, test } from 'vitest';
import { epollThreads, openFds, thrown } from '../support/inspect.ts';
import { describeNative } from '../support/native.ts';

describeNative('pidfd', (api) => {
  const children = new Map<ChildProcess, Promise<unknown>>();

  /** A child that lives until it is ended, and the pid that it has for sure. */
  function child(): { process: ChildProcess; pid: number } {
    const process = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] });
    children.set(process, once(process, 'close'));
    if (process.pid === undefined) throw new Error('cat did not start');
    return { process, pid: process.pid };
  }

  afterEach(async () => {
    for (const process of children.keys()) process.kill('SIGKILL');
    await Promise.all(children.values());
    children.clear();
  });

  test('waits for a process to end and signals that very one', async () => {
    const { process, pid } = child();
    const exited = once(process, 'exit');
    const fd = api.pidfdOpen(pid);
    const wait = api.pidfdWait(fd);
    api.pidfdSignal(fd, 0);
    api.pidfdSignal(fd, constants.signals.SIGTERM);
    await wait;
    expect(await exited).toEqual([null, 'SIGTERM']);
    expect(thrown(() => api.pidfdSignal(fd, 0))).toMatchObject({ code: 'ESRCH', syscall: 'pidfd_send_signal' });
    api.pidfdClose(fd);
  });

  test('settles a wait that begins after the end', async () => {
    const { process, pid } = child();
    const fd = api.pidfdOpen(pid);
    process.kill('SIGKILL');
    await once(process, 'exit');
    await expect(api.pidfdWait(fd)).resolves.toBeUndefined();
    await expect(api.pidfdWait(fd)).resolves.toBeUndefined();
    api.pidfdClose(fd);
  });

  test('refuses a pid that is gone', async () => {
    const { process, pid } = child();
    process.kill('SIGKILL');
    await once(process, 'exit');
    const error = thrown(() => api.pidfdOpen(pid));
    expect(error).toMatchObject({ code: 'ESRCH', syscall: 'pidfd_open', errno: -constants.errno.ESRCH });
    expect(error.message).toBe(`could not open process ${pid}: ESRCH (No such process)`);
  });

  test('rejects the pending wait when it is closed', async () => {
    const fd = api.pidfdOpen(child().pid);
    const wait = api.pidfdWait(fd);
    api.pidfdClose(fd);
    await expect(wait).rejects.toMatchObject({ code: 'ECANCELED' });
  });

  test('allows one wait at a time and no close under it', async () => {
    const fd = api.pidfdOpen(child().pid);
    const wait = api.pidfdWait(fd);
    await expect(api.pidfdWait(fd)).rejects.toMatchObject({ code: 'EEXIST', syscall: 'epoll_ctl' });
    expect(thrown(() => api.closeFd(fd)).code).toBe('EBUSY');
    api.pidfdClose(fd);
    await expect(wait).rejects.toMatchObject({ code: 'ECANCELED' });
  });

  test('rejects a descriptor that is not open or no pidfd', async () => {
    await expect(api.pidfdWait(1_000_000)).rejects.toMatchObject({ code: 'EBADF' });
    const [near, far] = api.socketpair();
    expect(thrown(() => api.pidfdSignal(near, 0)).code).toBe('EBADF');
    api.closeFd(near);
    api.closeFd(far);
  });

  test('watches 100 processes over one thread and leaves nothing open', async () => {
    const before = openFds().size;
    const waits = Array.from({ length: 100 }, async () => {
      const { process, pid } = child();
      const fd = api.pidfdOpen(pid);
      const wait = api.pidfdWait(fd);
      process.stdin?.end();
      await wait;
      api.pidfdClose(fd);
      await children.get(process);
    });
    await Promise.all(waits);
    expect(epollThreads()).toBe(1);
    expect(openFds().size).toBe(before);
  });
});

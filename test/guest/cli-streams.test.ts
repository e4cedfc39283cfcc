/** The commands that join people's programs to a real guest: forward, proxy, ssh, listen and cp. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runClientExample } from '../support/client-example.ts';
import { startFleet, type TestFleet, whyNoGuest } from '../support/up.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));
const ECHO_PORT = 7;
const RUN_PORT = 1024;
const HTTP_PORT = 8080;
const DIALLED_PORT = 9000;
const BIG_BYTES = 8 * 1024 ** 2;
/** What socat says of a port where nobody listens; vhost-device-vsock 0.3.0 says nothing to the guest, whose kernel gives up after 2 s. */
const NOBODY = /reset|refused|timed out/i;
const REQUESTS = 100;
const AT_ONCE = 20;

/** Answers one request with its path, and closes. */
const HTTP_SERVICE = `#!/bin/sh
read -r method path rest
while read -r header && [ "$header" != "$(printf '\\r')" ]; do :; done
printf 'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n%s' "\${#path}" "$path"
`;

const reason = whyNoGuest();
if (reason !== undefined) console.log(`skipped: ${reason}`);

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** A command that runs until it is ended. `says` resolves with the first line of its talk that fits. */
class Running implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #told = Promise.withResolvers<void>();

  constructor(fleet: TestFleet, args: readonly string[]) {
    const env = { ...process.env, FAIRLEAD_CONTEXT: fleet.up.contextFile };
    const child = spawn(process.execPath, [ENTRY, ...args], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.#lines.push(line);
      this.#told.resolve();
      this.#told = Promise.withResolvers();
    });
  }

  async says(words: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const told = this.#told.promise;
      const match = this.#lines.map((line) => words.exec(line)).find((found) => found !== null);
      if (match !== undefined && match !== null) return match;
      await told;
    }
  }

  /** Its exit code after an interrupt. */
  async end(): Promise<number | null> {
    if (this.#child.exitCode !== null) return this.#child.exitCode;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGINT');
    await exited;
    return this.#child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}

describe.skipIf(reason !== undefined)('a guest, for the programs that people have', () => {
  let fleet: TestFleet;
  beforeAll(async () => {
    fleet = await startFleet();
    await fleet.runReady('web', { memoryBacking: 'file' });
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());

  async function inGuest(command: string): Promise<string> {
    const { stream } = await fleet.hub.openStream({ vm: 'web', port: RUN_PORT, connectTimeoutMs: 60_000 });
    stream.end(`${command}\n`);
    return text(stream);
  }

  it('cp carries 8 MiB in and out again, unchanged, with its permissions, and leaves nothing else', async () => {
    const bytes = randomBytes(BIG_BYTES);
    const source = join(fleet.directory, 'big');
    await writeFile(source, bytes);
    await chmod(source, 0o640);
    expect(await fleet.cli(['cp', source, 'web:/tmp/in/'])).toMatchObject({
      code: 1,
      stderr: 'fairlead: could not write /tmp/in/big in VM web: No such file or directory (GUEST_FAILED)\n',
    });
    await inGuest('mkdir /tmp/in');
    const into = await fleet.cli(['cp', source, 'web:/tmp/in/']);
    expect(into).toMatchObject({ code: 0, stdout: '', stderr: '8.0 MiB copied to web:/tmp/in/big\n' });
    expect(await inGuest('cd /tmp/in; ls -A; stat -c %a big; sha256sum big')).toBe(`big\n640\n${sha256(bytes)}  big\n`);
    const target = join(fleet.directory, 'out');
    await mkdir(target);
    expect(await fleet.cli(['cp', 'web:/tmp/in/big', target])).toMatchObject({ code: 0, stdout: '' });
    expect(sha256(await readFile(join(target, 'big')))).toBe(sha256(bytes));
    expect(await readdir(target)).toEqual(['big']);
  });

  it('cp replaces a file whole, takes standard input and output, and files of no size', async () => {
    await fleet.cli(['cp', '-', 'web:/tmp/note'], 'a long first version');
    expect(await fleet.cli(['cp', '--mode', '0755', '-', 'web:/tmp/note'], 'two')).toMatchObject({ code: 0 });
    expect(await inGuest('cat /tmp/note; stat -c %a /tmp/note')).toBe('two755\n');
    expect(await fleet.cli(['cp', 'web:/tmp/note', '-'])).toMatchObject({ code: 0, stdout: 'two' });
    expect((await fleet.cli(['cp', 'web:/proc/version', '-'])).stdout).toMatch(/^Linux version/);
    await fleet.cli(['cp', '-', 'web:/tmp/empty'], '');
    const empty = join(fleet.directory, 'empty');
    expect(await fleet.cli(['cp', 'web:/tmp/empty', empty])).toMatchObject({ code: 0 });
    expect((await stat(empty)).size).toBe(0);
  });

  it.each([
    { what: 'cannot be written', sink: '> /dev/full', code: 1, says: /could not write the output/ },
    { what: 'is not read any more', sink: '| head -c 10 > /dev/null', code: 0, says: /^$/ },
  ])('cp to an output that $what ends at once', async ({ sink, code, says }) => {
    const script = `"$0" "$@" ${sink}\nexit \${PIPESTATUS[0]}`;
    const child = spawn('bash', ['-c', script, process.execPath, ENTRY, 'cp', 'web:/tmp/in/big', '-'], {
      env: { ...process.env, FAIRLEAD_CONTEXT: fleet.up.contextFile },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const closed = once(child, 'close');
    expect(await text(child.stderr)).toMatch(says);
    expect(await closed).toEqual([code, null]);
  });

  it.each([
    { what: 'a file that is not there', args: ['web:/nowhere', '-'], says: /No such file/ },
    { what: 'a directory of the guest', args: ['web:/tmp', '-'], says: /could not read \/tmp in VM web/ },
    {
      what: 'a directory here that is not there',
      args: ['web:/proc/version', '/nowhere/'],
      says: /could not write \/nowhere\/version/,
    },
    { what: 'a place that is a directory', args: ['-', 'web:/tmp/in'], says: /a directory has that name/ },
    { what: 'two guests', args: ['web:/a', 'web:/b'], says: /one of the two has to be in a guest/ },
    { what: 'a relative path', args: ['web:tmp', '-'], says: /no absolute path in VM web/ },
  ])('cp says what is wrong with $what, and leaves nothing behind', async ({ args, says }) => {
    const result = await fleet.cli(['cp', ...args], 'x');
    expect(result.code).not.toBe(0);
    expect(result.stderr).toMatch(says);
    expect(await inGuest('find /tmp -name "*.part"')).toBe('');
  });

  it('the example of the client library runs as it is written', async () => {
    const { hub, token } = fleet.up.context;
    expect(await runClientExample(hub, token)).toEqual({ stdout: 'web is running\nthe guest said: hello, guest\n', stderr: '' });
  });

  it('cp that is interrupted while its input is silent ends at once, and leaves nothing in the guest', async () => {
    const child = spawn(process.execPath, [ENTRY, 'cp', '-', 'web:/tmp/never'], {
      env: { ...process.env, FAIRLEAD_CONTEXT: fleet.up.contextFile },
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    child.stdin.write('half of it');
    const left = 'find /tmp -name "*never*"';
    await expect.poll(() => inGuest(left), { timeout: 30_000 }).toContain('.part');
    const exited = once(child, 'exit');
    child.kill('SIGINT');
    expect(await exited).toEqual([130, null]);
    await expect.poll(() => inGuest(left), { timeout: 30_000 }).toBe('');
  });

  it(`forward carries ${REQUESTS} HTTP requests to a service of the guest, over TCP and a unix socket`, async () => {
    await fleet.cli(['cp', '--mode', '0755', '-', 'web:/tmp/http'], HTTP_SERVICE);
    const serve = `socat -d -d VSOCK-LISTEN:${HTTP_PORT},fork,backlog=256 EXEC:/tmp/http,nofork </dev/null >/tmp/http.log 2>&1 &`;
    await fleet.hub.call('guest.exec', {
      vm: 'web',
      path: 'sh',
      args: ['-c', `${serve} until grep -q listening /tmp/http.log; do usleep 50000; done`],
    });
    const path = join(fleet.directory, 'http.sock');
    await using forward = new Running(fleet, ['forward', 'web', `0:${HTTP_PORT}`, `${path}:${HTTP_PORT}`]);
    const [, port] = await forward.says(/^127\.0\.0\.1:(\d+) leads to port 8080 of VM web$/);
    await forward.says(/http\.sock leads to port 8080/);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const answers: string[] = [];
    const next = Array.from({ length: REQUESTS }, (_, index) => index).values();
    const worker = async (): Promise<void> => {
      for (const index of next) answers.push(await (await fetch(`http://127.0.0.1:${port}/${index}`)).text());
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    expect(answers.sort()).toEqual(Array.from({ length: REQUESTS }, (_, index) => `/${index}`).sort());
    const socket = connect({ path });
    socket.write('GET /socket HTTP/1.1\r\n\r\n');
    expect(await text(socket)).toContain('/socket');
    expect(await forward.end()).toBe(0);
    await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('forward resets a connection to a port where nobody listens, and goes on', async () => {
    await using forward = new Running(fleet, ['forward', 'web', '0:4321', `0:${ECHO_PORT}`, '--connect-timeout', '3s']);
    const [, closed] = await forward.says(/:(\d+) leads to port 4321/);
    const [, open] = await forward.says(/:(\d+) leads to port 7 /);
    const refused = connect(Number(closed));
    const [error] = await once(refused, 'error');
    expect(error).toMatchObject({ code: 'ECONNRESET' });
    await forward.says(/a connection to port 4321 of VM web ended/);
    const socket = connect(Number(open));
    socket.write('hello');
    expect(String((await once(socket, 'data'))[0])).toBe('hello');
    socket.destroy();
  });

  it('ssh logs in by the proxy: the right port, keys by UUID, no token on the command line, its own exit code', async () => {
    const directory = join(fleet.directory, 'bin');
    await mkdir(directory);
    const recorded = join(fleet.directory, 'ssh.txt');
    // Speaks to the guest as ssh would, by what it was given as ProxyCommand; the remote command goes to the guest's run service.
    const script = `#!/bin/sh
printf '%s\\n' "$@" >'${recorded}'
for option in "$@"; do case $option in ProxyCommand=*) proxy=\${option#ProxyCommand=} ;; esac; last=$option; done
printf '%s\\n' "$last" | sh -c "exec $proxy"
exit 7
`;
    await writeFile(join(directory, 'ssh'), script, { mode: 0o755 });
    const args = ['--token', fleet.up.context.token, '--hub', fleet.up.context.hub];
    const before = process.env['PATH'];
    process.env['PATH'] = `${directory}:${before}`;
    const command = ['ssh', '--port', String(RUN_PORT), '-l', 'me', 'web', '--', 'sleep 0; echo in the guest'];
    const result = await fleet.cli([...args, ...command]).finally(() => {
      process.env['PATH'] = before;
    });
    const said = await readFile(recorded, 'utf8');
    const { uuid } = await fleet.hub.call('vm.get', { vm: 'web' });
    expect(said).toContain(`HostKeyAlias=${uuid}\n`);
    expect(said).toContain('StrictHostKeyChecking=accept-new\n');
    expect(said).toContain(`UserKnownHostsFile="${join(fleet.directory, 'known_hosts')}"\n`);
    expect(said).toMatch(/\n-l\nme\nweb\nsleep 0; echo in the guest\n$/);
    expect(said).not.toContain(fleet.up.context.token);
    expect(result).toMatchObject({ code: 7 });
  });

  it('proxy carries bytes both ways and ends with its peer', async () => {
    const child = spawn(process.execPath, [ENTRY, 'proxy', 'web', String(RUN_PORT)], {
      env: { ...process.env, FAIRLEAD_CONTEXT: fleet.up.contextFile },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    child.stdin.write('echo over the proxy\n');
    expect(await text(child.stdout)).toBe('over the proxy\n');
    child.stdin.end();
    if (child.exitCode === null) await once(child, 'exit');
    expect(child.exitCode).toBe(0);
  });

  it('listen lets the guest reach this machine, after a reset of the VM too', async () => {
    const server = createServer((socket) => void socket.end('from outside\n'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = address !== null && typeof address === 'object' ? address.port : 0;
    const dial = `socat -u VSOCK-CONNECT:2:${DIALLED_PORT} - 2>&1`;
    try {
      expect(await inGuest(dial)).toMatch(NOBODY);
      await using listener = new Running(fleet, ['listen', 'web', String(DIALLED_PORT), String(port), '--idle-timeout', '500ms']);
      await listener.says(/^listening to VM web on port 9000$/);
      expect(await inGuest(dial)).toContain('from outside\n');
      const again = await fleet.cli(['listen', 'web', String(DIALLED_PORT), String(port)]);
      expect(again).toMatchObject({ code: 4, stderr: expect.stringContaining('somebody hears VM web') });
      await fleet.hub.call('vm.reset', { vm: 'web' });
      expect(await inGuest(dial)).toContain('from outside\n');
      expect(await listener.end()).toBe(0);
      await expect.poll(() => inGuest(dial), { timeout: 30_000 }).toMatch(NOBODY);
    } finally {
      server.close();
    }
  });

  it('exec, connect and forward wake a guest that is suspended', async () => {
    await using forward = new Running(fleet, ['forward', 'web', `0:${ECHO_PORT}`]);
    const [, port] = await forward.says(/:(\d+) leads to port 7 /);
    const suspend = () => fleet.hub.call('vm.suspend', { vm: 'web' });
    await suspend();
    expect(await fleet.cli(['exec', 'web', '--', 'echo', 'awake'])).toMatchObject({ code: 0, stdout: 'awake\n' });
    await suspend();
    const connected = await fleet.cli(['connect', 'web', String(RUN_PORT)], 'echo awake\n');
    expect(connected).toMatchObject({ code: 0, stdout: 'awake\n' });
    await suspend();
    const socket = connect(Number(port));
    socket.write('awake');
    expect(String((await once(socket, 'data'))[0])).toBe('awake');
    socket.destroy();
    expect(await fleet.hub.call('vm.get', { vm: 'web' })).toMatchObject({ state: 'running' });
  });
});

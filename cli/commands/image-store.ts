/** `fairlead image push|ls|tag|rm|gc|pull`: images of the hub and of hosts. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { isFairleadError } from '../../shared/errors.ts';
import { ImageTag } from '../../shared/protocol/image-ref.ts';
import type { ImageInfo } from '../../shared/protocol/methods-image.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { type App, outputOf, withHub } from '../app.ts';
import type { HubConnection } from '../connection.ts';
import { parseDuration } from '../duration.ts';
import { type LocalImage, pushImage, readImage } from '../image/push-image.ts';
import { age, humanBytes } from '../output.ts';
import { Progress } from '../progress.ts';

/** Of a transfer that breaks off. */
const ATTEMPTS = 10;
const RETRY_MS = 1_000;
const MAY_PASS = new Set(['INTERRUPTED', 'CONNECT_FAILED']);

export function registerImageStore(image: Command, app: App): void {
  image
    .command('push <file>')
    .description('bring a kernel, an initial RAM disk or a disk to the hub, from where hosts fetch it')
    .option('--tag <name:tag>', 'a name by which specs may call it (image:NAME:TAG)')
    .action((path: string, { tag }: { tag?: string }, command: Command) => push(app, command, path, tag));

  image
    .command('ls')
    .alias('list')
    .description('images of the hub, or those that a host has')
    .option('--host <name>', 'of that host')
    .action((options: { host?: string }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        if (options.host !== undefined) {
          const { blobs } = await hub.call('blob.list', {}, options.host);
          const columns = [
            { title: 'DIGEST', value: (row: (typeof blobs)[number]) => row.digest },
            { title: 'SIZE', value: (row: (typeof blobs)[number]) => humanBytes(row.bytes) },
            { title: 'USED', value: (row: (typeof blobs)[number]) => (row.inUse ? 'yes' : 'no') },
          ];
          return output.list(blobs, columns, { name: (row) => row.digest, empty: `host ${options.host} has no images` });
        }
        const now = Date.now();
        output.list(
          await allImages(hub),
          [
            { title: 'TAGS', value: (row) => row.tags.join(' ') },
            { title: 'DIGEST', value: (row) => row.digest },
            { title: 'SIZE', value: (row) => humanBytes(row.bytes) },
            { title: 'AGE', value: (row) => age(row.createdAt, now) },
          ],
          { name: (row) => row.digest, empty: 'the hub has no images: bring one with fairlead image push FILE --tag NAME:TAG' },
        );
      }),
    );

  image
    .command('tag <image> <name:tag>')
    .description('let a tag stand for an image; if there is such a tag, it moves')
    .action((name: string, tag: string, _options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const info = await hub.call('image.tag', { image: name, tag });
        output.record(
          info,
          [
            ['image', info.digest],
            ['tags', info.tags.join(' ')],
          ],
          info.digest,
        );
      }),
    );

  image
    .command('rm <image>')
    .description('take a tag away; or remove an image by its digest, which nothing may use')
    .action((name: string, _options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const { untagged, removed } = await hub.call('image.remove', { image: name });
        output.record({ untagged, removed }, [
          ['untagged', untagged.join(' ')],
          ['removed', removed],
        ]);
      }),
    );

  image
    .command('gc')
    .description('remove images that no tag, no VM and no snapshot uses, from the hub or from a host')
    .option('--host <name>', 'from that host')
    .option('--older-than <duration>', 'leave younger ones of the hub (default: 1h)', parseDuration)
    .option('--dry-run', 'only tell which')
    .action((options: { host?: string; olderThan?: number; dryRun?: boolean }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const { host, olderThan, dryRun = false } = options;
        const { digests, bytes } =
          host === undefined
            ? await hub.call('image.collect', { dryRun, ...(olderThan === undefined ? {} : { olderThanMs: olderThan }) })
            : await hub.call('blob.collect', { dryRun }, host);
        output.list(digests, [{ title: 'DIGEST', value: (row) => row }], { name: (row) => row, empty: 'every image is in use' });
        output.say(`${dryRun ? 'would free' : 'freed'} ${humanBytes(bytes)}`);
      }),
    );

  image
    .command('pull <image>')
    .description('have a host fetch an image before a VM wants it')
    .option('--host <name>', 'the host')
    .action((name: string, { host }: { host?: string }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const { digest } = await hub.call('image.resolve', { image: name });
        const pulled = await hub.call('blob.pull', { digest }, host, { timeoutMs: 0 });
        output.record(
          pulled,
          [
            ['image', pulled.digest],
            ['size', humanBytes(pulled.bytes)],
            ['path', pulled.path],
          ],
          digest,
        );
      }),
    );
}

async function push(app: App, command: Command, path: string, tag: string | undefined): Promise<void> {
  const { stderr } = app.streams;
  // Before all of it has been sent.
  if (tag !== undefined) parseWith(ImageTag, tag, '--tag');
  const local = await readWithProgress(app, path);
  for (let attempt = 1; ; attempt++) {
    try {
      await withHub(app, command, async ({ hub, output }) => {
        using progress = new Progress({ stderr, label: `${path}: to the hub`, totalBytes: local.bytes });
        const { sentBytes } = await pushImage(hub, local, { signal: app.signal, count: (chunks) => progress.count(chunks) });
        const { digest, bytes } = local;
        if (tag !== undefined) await hub.call('image.tag', { image: digest, tag });
        output.record(
          { digest, bytes, sentBytes, ...(tag === undefined ? {} : { tag }) },
          [
            ['image', digest],
            ['tag', tag],
            ['size', humanBytes(bytes)],
            ['sent', sentBytes === bytes ? undefined : `${humanBytes(sentBytes)}: the rest was there`],
          ],
          digest,
        );
      });
      return;
    } catch (error) {
      const mayPass = isFairleadError(error) && MAY_PASS.has(error.code) && !app.signal.aborted;
      if (!mayPass || attempt === ATTEMPTS) throw error;
      outputOf(app, command).say(`${error.message}; going on from there`);
      await sleep(RETRY_MS, undefined, { signal: app.signal });
    }
  }
}

async function readWithProgress(app: App, path: string): Promise<LocalImage> {
  using progress = new Progress({ stderr: app.streams.stderr, label: `${path}: reading`, totalBytes: undefined });
  return await readImage(path, (chunks) => progress.count(chunks));
}

async function allImages(hub: HubConnection): Promise<ImageInfo[]> {
  const rows: ImageInfo[] = [];
  for (let after: string | undefined; ; ) {
    const page = await hub.call('image.list', after === undefined ? {} : { after });
    rows.push(...page.images);
    if (page.next === undefined) return rows;
    after = page.next;
  }
}

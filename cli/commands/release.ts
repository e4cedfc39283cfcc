/** `fairlead release pack|sign`: releases of the agent, as hosts are changed to them. `image push` brings them to the hub. */
import type { Command } from 'commander';
import { type App, outputOf } from '../app.ts';

interface SignOptions {
  readonly key: string;
}

export function registerRelease(program: Command, app: App): void {
  const release = program.command('release').description('releases of the agent');

  release
    .command('pack <file>')
    .description('make a release of this installation, for hosts of this architecture')
    .option('--from <directory>', 'of another one')
    .action(async (file: string, { from }: { from?: string }, command: Command) => {
      const { packRelease } = await import('../release/pack-release.ts');
      const { readImage } = await import('../image/push-image.ts');
      const packed = await packRelease(file, from);
      const { digest, bytes } = await readImage(file);
      const { version, platform, architecture, libc, node } = packed.manifest;
      outputOf(app, command).record(
        { ...packed, digest, bytes },
        [
          ['release', digest],
          ['version', version],
          ['for', `${platform} ${architecture}, ${libc === 'any' ? 'any C library' : libc}, Node ${node}`],
          ['files', packed.files],
          ['bytes', bytes],
        ],
        digest,
      );
    });

  release
    .command('sign <file>')
    .description('sign it for hosts that ask for it; a key that is not there is made')
    .requiredOption('--key <file>', 'the private key')
    .action(async (file: string, { key: path }: SignOptions, command: Command) => {
      const { readImage } = await import('../image/push-image.ts');
      const { loadOrCreateHostKey } = await import('../../shared/node/host-key.ts');
      const { releaseSignatureBytes } = await import('../../shared/protocol/release.ts');
      const { digest } = await readImage(file);
      const key = await loadOrCreateHostKey(path);
      const signature = key.sign(releaseSignatureBytes(digest));
      outputOf(app, command).record(
        { digest, signature, publicKey: key.publicKey },
        [
          ['release', digest],
          ['signature', signature],
          ['releaseKeys of hosts', key.publicKey],
        ],
        signature,
      );
    });
}

/** `fairlead image build`: the small guest that demo and tests run, from Debian packages; and the images of hub and hosts. */
import type { Command } from 'commander';
import { type App, outputOf } from '../app.ts';
import { registerImageStore } from './image-store.ts';

export function registerImage(program: Command, app: App): void {
  const image = program.command('image').description('guest images');
  registerImageStore(image, app);
  image
    .command('build')
    .description("build the demo guest: Debian's cloud kernel and an initramfs with a few vsock services")
    .action(async (_options: object, command: Command) => {
      const { buildImage } = await import('../image/build-image.ts');
      const output = outputOf(app, command);
      const built = await buildImage({ signal: app.signal, onProgress: (text) => output.say(text) });
      output.record(built, [
        ['image', built.directory],
        ['kernel', built.manifest.kernelVersion],
        ['state', built.built ? 'built' : 'up to date'],
      ]);
    });
}

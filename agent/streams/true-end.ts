/**
 * An end of file that nobody said. When a process ends, the kernel closes what it had open, and for whoever reads from it that looks like
 * the end of a guest's half. QEMU's end looks so too, since vhost-device-vsock closes its connections when QEMU has left it.
 */
import type { Duplex } from 'node:stream';
import type { FairleadError } from '../../shared/errors.ts';

/** The stream fails with what `whyNot` says when its end comes, unless that says nothing: asked at that very moment. */
export function endsUnless(stream: Duplex, whyNot: () => FairleadError | undefined): void {
  const push = stream.push.bind(stream);
  stream.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
    const error = chunk === null ? whyNot() : undefined;
    if (error === undefined) return push(chunk, encoding);
    stream.destroy(error);
    return false;
  };
}

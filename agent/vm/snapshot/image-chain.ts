/** What an image of a disk stands on, as the headers of qcow2 images name it. */
import { filesOfQcow2, type Qcow2Files } from '../qcow2-files.ts';

export interface Image {
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
}

const MAX_DEPTH = 64;

/** Itself, and all that is below it, as far as that can be told: a header that says nothing clear is none of ours. */
export async function chainOf(image: Image): Promise<Image[]> {
  const chain = [image];
  for (let at = image; chain.length < MAX_DEPTH; ) {
    const below = await backingOf(at).catch(() => undefined);
    if (below === undefined) break;
    at = below;
    chain.push(at);
  }
  return chain;
}

/** Undefined for one that stands on nothing. @throws FairleadError PERMISSION_DENIED for a header that says nothing clear. */
export async function backingOf({ path, format }: Image): Promise<Qcow2Files['backing']> {
  return format === 'raw' ? undefined : (await filesOfQcow2(path))?.backing;
}

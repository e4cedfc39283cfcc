/** Whether a file is an image, or what a VM writes above it. */
import { digestsIn } from '../../shared/protocol/image-ref.ts';
import { filesOfQcow2 } from '../vm/qcow2-files.ts';

export async function standsOn(path: string, digest: string): Promise<boolean> {
  if (digestsIn(path).includes(digest)) return true;
  const below = (await filesOfQcow2(path))?.backing?.path;
  return below !== undefined && digestsIn(below).includes(digest);
}

/** Methods about the images that this host has. */
import type { IMAGE_METHODS } from '../../../shared/protocol/methods-image.ts';
import { type ImagesOnDemand, pullOptionsOf } from '../../images/on-demand.ts';
import type { HandlersOf } from './types.ts';

export function blobHandlers(images: ImagesOnDemand): HandlersOf<typeof IMAGE_METHODS> {
  return {
    'blob.pull': async (params, context) => (await images.get()).pull(params, pullOptionsOf(context)),
    'blob.list': async () => (await images.get()).list(),
    'blob.collect': async (params) => (await images.get()).collect(params),
  };
}

/** Methods about the hub's images. */
import type { IMAGE_METHODS } from '../../../shared/protocol/methods-image.ts';
import type { Images } from '../../images/images.ts';
import type { HubHandlersOf } from './types.ts';

export interface ImageServices {
  readonly images: Images;
}

export function imageHandlers({ images }: ImageServices): HubHandlersOf<typeof IMAGE_METHODS> {
  return {
    'image.list': ({ after, limit }) => images.book.list({ after, limit }),
    'image.resolve': ({ image }) => images.book.resolve(image),
    'image.tag': (params, { caller }) => images.tag(params, caller.principal.tokenId),
    'image.remove': (params) => images.remove(params),
    'image.collect': (params) => images.collect(params),
  };
}

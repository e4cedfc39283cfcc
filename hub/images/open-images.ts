/** The images of a hub, from its configuration and its store. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BlobFiles } from '../../shared/node/blob-files.ts';
import type { HubConfig } from '../config.ts';
import type { HubLogger } from '../logger.ts';
import type { Store } from '../store/store.ts';
import { ImageBook } from './image-book.ts';
import { ImageStreams } from './image-streams.ts';
import { Images, type ImagesOptions } from './images.ts';

export interface OpenImagesOptions extends Pick<ImagesOptions, 'blobsOf' | 'named' | 'now'> {
  readonly config: Pick<HubConfig, 'dataDir' | 'maxImageBytes' | 'imageRate'>;
  readonly hubId: string;
  readonly store: Store;
  readonly logger: HubLogger;
}

export interface HubImages {
  readonly images: Images;
  readonly imageStreams: ImageStreams;
}

export function openImages({ config, hubId, store, logger, ...rest }: OpenImagesOptions): HubImages {
  const { dataDir, maxImageBytes, imageRate } = config;
  // A hub that keeps nothing has nowhere to keep them; its id is another each time.
  const directory = dataDir === ':memory:' ? join(tmpdir(), `fairlead-images-${hubId}`) : join(dataDir, 'images');
  const book = new ImageBook({ store, files: new BlobFiles({ directory }), now: rest.now });
  return { images: new Images({ book, ...rest }), imageStreams: new ImageStreams({ book, maxImageBytes, imageRate, logger }) };
}

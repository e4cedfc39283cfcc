/** Where operators' lines go, from the address that people write. */
import { FairleadError } from '../shared/errors.ts';

const OPERATOR_PATH = '/rpc';

/** @throws FairleadError INVALID_PARAMS */
export function operatorUrl(hub: string): URL {
  if (!URL.canParse(hub) || !['http:', 'https:', 'ws:', 'wss:'].includes(new URL(hub).protocol)) {
    throw new FairleadError(
      'INVALID_PARAMS',
      `${JSON.stringify(hub.slice(0, 200))} is no address of a hub, such as wss://hub.example`,
    );
  }
  const url = new URL(hub);
  url.protocol = url.protocol === 'https:' || url.protocol === 'wss:' ? 'wss:' : 'ws:';
  url.pathname = `${url.pathname.replace(/\/+$/, '')}${OPERATOR_PATH}`;
  return url;
}

/** Methods that are carried out inside a guest. */
import type { GUEST_METHODS } from '../../../shared/protocol/methods-guest.ts';
import type { Guests } from '../../vm/guest-agent/guests.ts';
import type { HandlersOf } from './types.ts';

export function guestHandlers(guests: Guests): HandlersOf<typeof GUEST_METHODS> {
  return {
    'guest.ping': (params, context) => guests.ping(params, context),
    'guest.info': (params, context) => guests.info(params, context),
    'guest.exec': (params, context) => guests.exec(params, context),
    'guest.fsfreeze': (params, context) => guests.fsfreeze(params, context),
    'guest.setTime': (params, context) => guests.setTime(params, context),
    'guest.shutdown': (params, context) => guests.shutdown(params, context),
  };
}

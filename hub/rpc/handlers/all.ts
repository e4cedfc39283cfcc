/** Every method that the hub answers itself, one group of the contract's table after another. */
import type { TokenService } from '../../auth/tokens.ts';
import type { DesiredFleet } from '../../desired/desired-fleet.ts';
import { type CommandServices, commandHandlers } from './command.ts';
import { desiredHandlers } from './desired.ts';
import { type EventServices, eventHandlers } from './event.ts';
import { type FleetServices, fleetHandlers } from './fleet.ts';
import { type HubFacts, hubHandlers } from './hub.ts';
import { type ImageServices, imageHandlers } from './image.ts';
import { type RolloutServices, rolloutHandlers } from './rollout.ts';
import { tokenHandlers } from './token.ts';
import type { HubHandlers } from './types.ts';

/** What the handlers work with. */
export interface HubServices extends HubFacts, FleetServices, EventServices, CommandServices, ImageServices, RolloutServices {
  readonly tokens: TokenService;
  readonly desired: DesiredFleet;
}

export function allHubHandlers(services: HubServices): HubHandlers {
  return {
    ...hubHandlers(services),
    ...fleetHandlers(services),
    ...eventHandlers(services),
    ...commandHandlers(services),
    ...desiredHandlers(services.desired, services.images),
    ...imageHandlers(services),
    ...rolloutHandlers(services),
    ...tokenHandlers(services.tokens),
  };
}

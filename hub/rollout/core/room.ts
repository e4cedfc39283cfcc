/** What is left of the disruption budget, as hosts are taken one after the other in one turn. */
import type { HostState } from './state.ts';
import type { World } from './turn.ts';

export class Room {
  readonly #world: World;
  readonly #ofZone = new Map<string, number>();
  readonly #room: ReturnType<World['room']>;
  #total: number;

  constructor(world: World) {
    this.#world = world;
    this.#room = world.room();
    this.#total = this.#room.total;
  }

  obstacle({ host, zone }: HostState): string | undefined {
    if (this.#world.isUnavailable(host)) return undefined;
    if (this.#total <= 0) return 'the disruption budget is used up';
    return this.#inZone(zone) <= 0 ? `the disruption budget of zone ${zone} is used up` : undefined;
  }

  take({ host, zone }: HostState): void {
    if (this.#world.isUnavailable(host)) return;
    this.#total -= 1;
    this.#ofZone.set(zone, this.#inZone(zone) - 1);
  }

  #inZone(zone: string): number {
    return this.#ofZone.get(zone) ?? this.#room.zone(zone);
  }
}

/**
 * The bus tells whoever listens what happens in the fleet, as it happens: one message to every subscriber of its topic, in the order of
 * the telling. It keeps nothing; what must not be missed is in the store, and the bus says that there is more to read.
 */
import type { HubLogger } from './logger.ts';

/** What is told under each topic. A subject adds its topic here. */
export interface Topics {
  /** The session of a host serves, or is gone. */
  'host.connected': { readonly host: string; readonly epoch: number };
  /** Labels of the host, or whether it takes VMs. */
  'host.changed': { readonly host: string };
  'host.disconnected': { readonly host: string; readonly epoch: number };
  /** A command of an operator that changes something is on its way to its host, until it is known what came of it. */
  'command.begun': { readonly host: string; readonly id: string; readonly method: string };
  'command.ended': { readonly host: string; readonly id: string };
}

export interface Bus {
  publish<T extends keyof Topics>(topic: T, message: Topics[T]): void;
  /** Until disposed of. What `listener` throws is logged. */
  subscribe<T extends keyof Topics>(topic: T, listener: (message: Topics[T]) => void): Disposable;
}

/** Within this process. Listeners are called before `publish` returns. */
export function createLocalBus(logger: HubLogger): Bus {
  const listeners = new Map<string, Set<(message: never) => void>>();
  return {
    publish: (topic, message) => {
      for (const listener of listeners.get(topic) ?? []) {
        try {
          // SAFETY: `subscribe` keeps under a topic only listeners for its message.
          listener(message as never);
        } catch (err) {
          logger.error({ err, topic }, `a listener of ${topic} failed`);
        }
      }
    },
    subscribe: (topic, listener) => {
      const ofTopic = listeners.get(topic) ?? new Set();
      listeners.set(topic, ofTopic.add(listener));
      return { [Symbol.dispose]: () => void ofTopic.delete(listener) };
    },
  };
}

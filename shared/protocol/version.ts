/** WebSocket sub-protocol of the line between agent or operator and hub (RFC 6455 §1.9). */
export const SUBPROTOCOL = 'fairlead.v1';

/**
 * Version of the method table. It rises by one with each release that adds a method or a field; `since` of a method names the first
 * version that has it. A hub sends an agent only what the agent's HELLO says it knows.
 */
export const CONTRACT_VERSION = 1;

/** How many versions back a hub still speaks with an agent. */
export const SUPPORTED_VERSION_SKEW = 2;

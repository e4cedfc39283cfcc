/**
 * `node:http` and `node:https` without Node's web classes (fetch, Response, WebSocket): an import statement reads every export of a
 * built-in module, and some of theirs are getters that load those, 5 MB that a program at rest has no use for.
 */
const http = process.getBuiltinModule('node:http');
const https = process.getBuiltinModule('node:https');

export const createHttpServer = http.createServer;
export const HttpAgent = http.Agent;
export type HttpAgent = InstanceType<typeof http.Agent>;
export const httpRequest = http.request;
export const httpsRequest = https.request;

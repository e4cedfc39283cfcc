/** Host policies for tests: one that allows everything, to be narrowed. */
import type { PolicyConfig } from '../../agent/rpc/policy.ts';

export const OPEN_POLICY: PolicyConfig = {
  methods: ['*'],
  qmpCommands: ['query-*'],
  vsockPorts: ['*'],
  listenPorts: ['*'],
  imageRoots: ['/'],
  firmwareRoots: ['/'],
  pciDevices: ['*'],
  networks: ['*'],
  forwardPorts: ['*'],
  migrationTargets: ['*'],
};

/** The agent's command line: settings from flags, variables and file, and the directories that the system gives a service. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { FairleadError } from '../shared/errors.ts';
import { type Environment, readSettings, settingsUsage } from '../shared/node/settings-source.ts';
import { AGENT_SETTINGS_SOURCE, type AgentConfig, parseAgentConfig } from './config.ts';

export interface AgentCommandLine {
  readonly config: AgentConfig;
  readonly printConfig: boolean;
}

/** @throws FairleadError INVALID_PARAMS */
export function readAgentCommandLine(argv: readonly string[], env: Environment): AgentCommandLine | 'help' {
  const { help, printConfig, values } = readSettings(AGENT_SETTINGS_SOURCE, argv, env);
  if (!help && values['hub'] === undefined) {
    throw new FairleadError(
      'INVALID_PARAMS',
      'no hub is known: give --hub ADDRESS, FAIRLEAD_AGENT_HUB, or hub in the file that --config names',
    );
  }
  return help ? 'help' : { config: parseAgentConfig({ ...defaultDirectories(env), ...values }), printConfig };
}

export function agentUsage(): string {
  return `usage: fairlead agent --hub ADDRESS [--config FILE] [--print-config] [--help]

Runs VMs on this host for the hub. Each flag has a variable (--state-dir is FAIRLEAD_AGENT_STATE_DIR) and a key of the file (stateDir).
Lists take commas or several flags. --print-config shows what comes of it all and ends.

${settingsUsage(AGENT_SETTINGS_SOURCE)}`;
}

/** systemd's directories; else those of root, else those of the XDG base directory specification. */
function defaultDirectories(env: Environment): { stateDir: string; runDir?: string } {
  const isRoot = process.getuid?.() === 0;
  const home = env['HOME'] ?? homedir();
  const stateDir =
    env['STATE_DIRECTORY'] ??
    (isRoot ? '/var/lib/fairlead' : join(env['XDG_STATE_HOME'] ?? join(home, '.local/state'), 'fairlead'));
  const base = env['XDG_RUNTIME_DIR'];
  const runDir = env['RUNTIME_DIRECTORY'] ?? (isRoot ? '/run/fairlead' : base === undefined ? undefined : join(base, 'fairlead'));
  return { stateDir, ...(runDir === undefined ? {} : { runDir }) };
}

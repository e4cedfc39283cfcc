/** docs/reference/configuration.md out of the settings of agent and hub. */
import { AGENT_SETTINGS_SOURCE } from '../../agent/config.ts';
import { HUB_SETTINGS_SOURCE } from '../../hub/config.ts';
import type { SettingsSource } from '../../shared/node/settings-source.ts';
import { defaultOf, flagName, variableName } from '../../shared/settings.ts';
import { table } from './type-text.ts';

export function configurationPage(): string {
  return [
    '# Configuration',
    '',
    'Made from the settings of agent and hub by `node scripts/generate-docs.ts`; do not edit.',
    '',
    'A flag wins over a variable, a variable over the file (`--config FILE`, YAML or JSON), the file over the default. Unknown keys are refused',
    'by name. `--print-config` shows what comes of it all, without secrets. Operators have no file of settings: see `fairlead --help` for the',
    'flags and variables that name a hub and a token.',
    '',
    '## Agent',
    '',
    ...settingsTable(AGENT_SETTINGS_SOURCE),
    '',
    '## Hub',
    '',
    ...settingsTable(HUB_SETTINGS_SOURCE),
    '',
  ].join('\n');
}

function settingsTable({ settings, prefix }: SettingsSource): string[] {
  return table(
    ['key', 'flag', 'variable', 'default', 'what it is'],
    Object.entries(settings).map(([key, setting]) => {
      const value = defaultOf(setting);
      const shown = value === undefined ? '' : `\`${JSON.stringify(value)}\``;
      return [`\`${key}\``, `\`--${flagName(key)}\``, `\`${variableName(prefix, key)}\``, shown, setting.help];
    }),
  );
}

/** The actor (`_meta.actor`) of commands that a rollout gives; people and programs are named by their tokens, which have no space in their ids. */
const PREFIX = 'rollout ';

export function rolloutActor(rollout: string): string {
  return `${PREFIX}${rollout}`;
}

export function isRolloutActor(actor: string | undefined): boolean {
  return actor?.startsWith(PREFIX) === true;
}

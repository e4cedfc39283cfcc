/**
 * Changing the agent for another release of itself. Everything that can be known before is looked at while the old one still serves:
 *
 *     here already? ─ no ─▶ signed? ─▶ pulled and checked ─▶ fits this host, reads its state? ─▶ unpacked ─┐
 *           └─ yes ────────────────────────────────────────────────────────────────────────────────────────┴▶ staged ─▶ HandOver
 *
 * From `staged` on it is the launcher's business: the old agent ends in order, the new one is tried, and whichever runs at last ends the command
 * (agent/rpc/reconcile-update.ts).
 */
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';
import { verifySignature } from '../../shared/node/host-key.ts';
import { VERSION } from '../../shared/node/version.ts';
import type { Digest } from '../../shared/protocol/image-ref.ts';
import type { Params, Result } from '../../shared/protocol/methods.ts';
import { ReleaseName, releaseSignatureBytes } from '../../shared/protocol/release.ts';
import { failpoint } from '../failpoint.ts';
import type { PullOptions } from '../images/puller.ts';
import { INSTALLED, type Release } from '../launcher/record.ts';
import { HandOver } from '../rpc/hand-over.ts';
import type { LauncherLine } from './launcher-line.ts';
import { Releases, requireFit } from './releases.ts';
import type { UpdateOptions, UpdateOutcome, Updates } from './updates.ts';

export interface UpdaterOptions {
  /** Undefined where the agent was not begun by one. */
  readonly launcher: LauncherLine | undefined;
  /** base64url; with any, a release must be signed by one of them. */
  readonly releaseKeys: readonly string[];
  /** Brings an archive from the hub, checked, and says where it is. */
  readonly pull: (digest: Digest, options: PullOptions) => Promise<string>;
  readonly brokenVms: () => readonly string[];
}

export class Updater implements Updates {
  readonly #options: UpdaterOptions;
  #isBusy = false;

  constructor(options: UpdaterOptions) {
    this.#options = options;
  }

  async release(): Promise<Result<'agent.release'>> {
    const { launcher } = this.#options;
    if (launcher === undefined) return { version: VERSION, updatable: false, release: INSTALLED, onTrial: false };
    const { release } = await launcher.self();
    const { previous, crashes, fallback, outcomes } = await launcher.record();
    const onTrial = (await launcher.trial()) !== undefined;
    const last = outcomes.at(-1);
    return {
      version: VERSION,
      updatable: true,
      release,
      onTrial,
      ...(previous === undefined ? {} : { previous }),
      ...(crashes === undefined ? {} : { crashes }),
      ...(fallback === undefined ? {} : { fallback }),
      ...(last === undefined ? {} : { lastUpdate: withoutId(last) }),
    };
  }

  async update(params: Params<'agent.update'>, options: UpdateOptions): Promise<Result<'agent.update'>> {
    const launcher = this.#launcher();
    if (!v.is(ReleaseName, params.release)) throw onlyTheHubKnows(params.release);
    const { release } = await launcher.self();
    if (release === params.release) return this.#runs(launcher);
    if (this.#isBusy || (await launcher.trial()) !== undefined) {
      throw new FairleadError('CONFLICT', 'another update of this agent is under way: wait for its end');
    }
    this.#isBusy = true;
    try {
      return await this.#leaveFor(launcher, params, options);
    } finally {
      this.#isBusy = false;
    }
  }

  async outcomeOf(commandId: string): Promise<UpdateOutcome | undefined> {
    const launcher = this.#launcher();
    const outcome = await launcher.outcomeOf(commandId);
    if (outcome === undefined) return undefined;
    await failpoint('update.kept');
    const { release, failure } = outcome;
    return { release, failure, runs: await this.#runs(launcher) };
  }

  async #leaveFor(launcher: LauncherLine, params: Params<'agent.update'>, options: UpdateOptions): Promise<never> {
    const { directory } = await launcher.self();
    const { current, previous } = await launcher.record();
    const { release, healthTimeoutMs, signature } = params;
    const { brokenVms, releaseKeys } = this.#options;
    // The way back is free: what this host has run before was signed then.
    if (release !== previous) requireSigned(release, signature, releaseKeys);
    if (release !== INSTALLED) await this.#bring(new Releases(directory), release, [current, previous, release], options);
    options.signal.throwIfAborted();
    await launcher.stage({ id: options.commandId, release, healthTimeoutMs, brokenVms: brokenVms() });
    await failpoint('update.staged');
    throw new HandOver(`the agent changes to release ${release}`);
  }

  async #bring(
    releases: Releases,
    release: Digest,
    kept: readonly (Release | undefined)[],
    options: UpdateOptions,
  ): Promise<void> {
    const here = await releases.manifestOf(release);
    if (here !== undefined) return requireFit(release, here);
    await releases.removeBut(kept);
    const archive = await this.#options.pull(release, options.pull);
    await releases.unpack(release, archive, options.signal);
    await failpoint('update.unpacked');
  }

  async #runs(launcher: LauncherLine): Promise<Result<'agent.update'>> {
    const { directory, release } = await launcher.self();
    const { previous } = await launcher.record();
    const manifest = await new Releases(directory).manifestOf(release);
    return { release, version: manifest?.version ?? VERSION, ...(previous === undefined ? {} : { previous }) };
  }

  /** @throws FairleadError UNSUPPORTED */
  #launcher(): LauncherLine {
    const { launcher } = this.#options;
    if (launcher !== undefined) return launcher;
    throw new FairleadError(
      'UNSUPPORTED',
      'this agent cannot be changed for another release: it was not begun by `fairlead launch` (docs/howto/update-agents.md)',
    );
  }
}

function onlyTheHubKnows(tag: string): FairleadError {
  return new FairleadError('INVALID_PARAMS', `${tag} is a tag, and only a hub knows what it stands for: name its digest`);
}

function requireSigned(release: Release, signature: string | undefined, keys: readonly string[]): void {
  if (keys.length === 0 || release === INSTALLED) return;
  const bytes = releaseSignatureBytes(release);
  if (signature !== undefined && keys.some((key) => verifySignature(key, bytes, signature))) return;
  const why = signature === undefined ? 'has no signature' : 'is signed by none of them';
  throw new FairleadError('PERMISSION_DENIED', `release ${release} ${why}, and this host takes those of its releaseKeys alone`);
}

function withoutId({
  id,
  ...outcome
}: {
  readonly id: string;
  readonly release: Release;
  readonly failure?: string;
  readonly at: string;
}) {
  return { commandId: id, ...outcome };
}

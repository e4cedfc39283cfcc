/**
 * Whether the agent can do its work, in Kubernetes' form: one line a check, `[+]name ok` or `[-]name failed: why`. Programs read the
 * status code alone.
 */
export interface ReadinessCheck {
  readonly name: string;
  /** Settles with why it fails, or undefined. Must not throw; has `CHECK_TIMEOUT_MS`. */
  run(): Promise<string | undefined> | string | undefined;
}

export interface ReadinessReport {
  readonly ok: boolean;
  readonly text: string;
}

const CHECK_TIMEOUT_MS = 2_000;

/** Runs all checks but the excluded ones, at the same time. */
export async function checkReadiness(checks: readonly ReadinessCheck[], exclude: readonly string[]): Promise<ReadinessReport> {
  const outcomes = await Promise.all(
    checks.map(async (check) => {
      if (exclude.includes(check.name)) return { ok: true, line: `[+]${check.name} excluded: ok` };
      const reason = await reasonOf(check);
      return {
        ok: reason === undefined,
        line: reason === undefined ? `[+]${check.name} ok` : `[-]${check.name} failed: ${reason}`,
      };
    }),
  );
  const unknown = exclude.filter((name) => !checks.some((check) => check.name === name));
  const ok = outcomes.every((outcome) => outcome.ok);
  const lines = [
    ...outcomes.map((outcome) => outcome.line),
    ...unknown.map((name) => `warn: no check is called ${JSON.stringify(name)}`),
    `readyz check ${ok ? 'passed' : 'failed'}`,
  ];
  return { ok, text: `${lines.join('\n')}\n` };
}

/** Why it fails, or undefined; in its time. Never rejects. */
export async function reasonOf(check: ReadinessCheck): Promise<string | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<string>();
  const timer = setTimeout(resolve, CHECK_TIMEOUT_MS, `no answer within ${CHECK_TIMEOUT_MS} ms`);
  try {
    return await Promise.race([Promise.resolve(check.run()), late]);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    clearTimeout(timer);
  }
}

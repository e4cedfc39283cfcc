/** The add-on's tests skip, and say why, where it is not built. */
import { describe } from 'vitest';
import type { NativeApi } from '../../native/index.ts';
import { loadNative } from '../../native/index.ts';

const native = loadNative();

/** A `describe` whose body gets the add-on, or is skipped, for a reason that is printed. */
export function describeNative(name: string, body: (api: NativeApi) => void): void {
  // SAFETY: the empty object goes to bodies of skipped suites, which collect their tests and run none.
  const api = native.available ? native.api : ({} as NativeApi);
  if (!native.available) console.log(`skipped: ${native.reason}`);
  describe.skipIf(!native.available)(`the add-on: ${name}`, () => {
    body(api);
  });
}

/**
 * The typed loader of the add-on. Importing it does nothing; `loadNative` looks once and remembers the answer, and a machine
 * without the compiled module gets a reason instead of an exception.
 *
 * Where the module lies: `native/build/Release/` of the package, reached from `native/index.ts` in the source tree and from
 * `dist/native/index.js` in a built one. FAIRLEAD_NATIVE, an absolute path, overrides it (packagers, sanitizer builds).
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { NativeApi } from './api.ts';
import { createApi } from './api.ts';
import type { Binding } from './binding.ts';

export type { NativeApi } from './api.ts';

export type NativeResult =
  | { readonly available: true; readonly api: NativeApi }
  | { readonly available: false; readonly reason: string };

/** Raised here and in `src/addon.cc` together when an operation's arguments or results change. */
const INTERFACE_VERSION = 4;

const HOW_TO_BUILD = 'run `npm run setup` with a C++ compiler, make and python3 installed';

let loaded: NativeResult | undefined;

/** The add-on, or why there is none. Never throws. */
export function loadNative(): NativeResult {
  loaded ??= load(process.env['FAIRLEAD_NATIVE'] ?? modulePath());
  return loaded;
}

/** The add-on for those who cannot do without; throws an Error with code ERR_NATIVE_UNAVAILABLE that says why. */
export function requireNative(): NativeApi {
  const result = loadNative();
  if (result.available) return result.api;
  throw Object.assign(new Error(result.reason), { code: 'ERR_NATIVE_UNAVAILABLE' });
}

/** Loads one file; exported for its tests. */
export function load(path: string): NativeResult {
  if (process.platform !== 'linux') {
    return { available: false, reason: `the native add-on needs Linux, and this is ${process.platform}` };
  }
  if (!existsSync(path)) {
    return { available: false, reason: `the native add-on is not built (no ${path}): ${HOW_TO_BUILD}` };
  }
  try {
    // SAFETY: the version is checked before anything else is used of it.
    const binding = createRequire(import.meta.url)(path) as Binding;
    if (binding.interfaceVersion !== INTERFACE_VERSION) {
      const reason = `the native add-on at ${path} belongs to another version of fairlead: ${HOW_TO_BUILD}`;
      return { available: false, reason };
    }
    return { available: true, api: createApi(binding) };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { available: false, reason: `could not load the native add-on ${path}: ${why}: ${HOW_TO_BUILD}` };
  }
}

function modulePath(): string {
  const built = 'build/Release/fairlead_native.node';
  const fromSource = fileURLToPath(new URL(`./${built}`, import.meta.url));
  const fromDist = fileURLToPath(new URL(`../../native/${built}`, import.meta.url));
  return existsSync(fromDist) && !existsSync(fromSource) ? fromDist : fromSource;
}

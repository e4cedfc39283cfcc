/**
 * A full collection, after which V8 has given back what it kept for later: what is left is what a connection costs. Without it the figure
 * is mostly room that a storm of handshakes has left.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

export function collector(): () => void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect !== 'function') throw new Error('this Node offers no collection');
  return () => {
    collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  };
}

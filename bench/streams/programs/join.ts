/** Two streams as one, each direction with its own back pressure and its own end; the failure of one ends both. */
import { type Duplex, pipeline } from 'node:stream';

export function join(left: Duplex, right: Duplex): void {
  const onEnd = (error: Error | null | undefined): void => {
    if (!error) return;
    left.destroy();
    right.destroy();
  };
  pipeline(left, right, onEnd);
  pipeline(right, left, onEnd);
}

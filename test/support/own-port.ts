/** A port to which a server of the test comes back after it was gone. */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Linux gives whoever asks for any port, and every connection that is dialled, one from 32768 on. */
const [FIRST, END] = [20_000, 32_768];

/** One of 127.0.0.1 that is free, and that nobody is given by chance while nobody listens on it. */
export async function ownPort(): Promise<number> {
  for (;;) {
    const port = randomInt(FIRST, END);
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    await new Promise((resolve) => server.close(resolve));
    if (isFree) return port;
  }
}

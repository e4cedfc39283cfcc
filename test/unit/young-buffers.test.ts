import { expect, it } from 'vitest';
import { countYoungBuffer } from '../../shared/node/young-buffers.ts';

const MESSAGE_BYTES = 64 * 1024;
const LOOKS = 300;

function passMessages(count: number): void {
  for (let passed = 0; passed < count; passed++) {
    const message = Buffer.alloc(MESSAGE_BYTES, passed);
    countYoungBuffer(message.length);
  }
}

it('frees the buffers of messages that were passed on, long before V8 would', () => {
  passMessages(200);
  const before = process.memoryUsage().arrayBuffers;
  let sum = 0;
  for (let look = 0; look < LOOKS; look++) {
    passMessages(32);
    sum += process.memoryUsage().arrayBuffers - before;
  }
  // Each time up to a dozen; V8 by itself leaves several times as much. On the mean, since what is collected is freed by another thread.
  expect(sum / LOOKS).toBeLessThan(16 * 1024 * 1024);
});

it('leaves no name `gc` behind', () => {
  passMessages(200);
  expect(globalThis).not.toHaveProperty('gc');
});

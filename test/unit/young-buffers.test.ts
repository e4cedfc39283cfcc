import { expect, it } from 'vitest';
import { countYoungBuffer } from '../../shared/node/young-buffers.ts';

const MESSAGE_BYTES = 64 * 1024;

function passMessages(count: number): void {
  for (let passed = 0; passed < count; passed++) {
    const message = Buffer.alloc(MESSAGE_BYTES, passed);
    countYoungBuffer(message.length);
  }
}

it('frees the buffers of messages that were passed on, long before V8 would', async () => {
  passMessages(200);
  const before = process.memoryUsage().arrayBuffers;
  passMessages(10_000);
  // What is collected is freed by another thread of V8, which a busy machine lets wait.
  await expect.poll(() => process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
});

it('leaves no name `gc` behind', () => {
  passMessages(200);
  expect(globalThis).not.toHaveProperty('gc');
});

// Baseline of the agent as a process: Node with one `ws` connection and nothing else. Plain JavaScript, so that no time goes into types.
import { WebSocket } from 'ws';

const socket = new WebSocket(process.argv[2], { perMessageDeflate: false });
socket.on('close', () => process.exit());

/** The operator's end of a line: does what the benchmark orders, one order after another, and tells what came of it. */
import { endWithBenchmark, programArgs, tell, tellFailures } from '../../programs.ts';
import { fill } from '../operator/fill.ts';
import { openings } from '../operator/openings.ts';
import { pour } from '../operator/pour.ts';
import { transfer } from '../operator/transfer.ts';
import { openTunnel, type TunnelAddress } from '../operator/tunnel.ts';
import type { Order } from '../order.ts';

const address = programArgs<TunnelAddress>();

endWithBenchmark();
tellFailures();
const tunnel = await openTunnel(address);
process.on('message', (order: Order) => void carryOut(order).then(tell));
tell({ ready: true });

function carryOut(order: Order): Promise<object> {
  switch (order.do) {
    case 'pour':
      return pour(tunnel, order, tell);
    case 'open':
      return openings(tunnel, order);
    case 'fill':
      return fill(tunnel, order);
    case 'transfer':
      return transfer(tunnel, order);
  }
}

// bench:backends: what each device of this machine makes of its own rate of matrix products, on a block and in training.

import { type Backend, grad, LowbitError, mean, read, square, type Tensor } from '@lowbit/core';
import { chooseBackend, deviceNames, openBackend } from '../backends.js';
import { matmulRate } from '../matmul-rate.js';
import { median } from './layer.js';
import type { LlamaShape } from './llama.js';
import { type LlamaBlockShape, llamaBlock } from './llama-block.js';
import { measureLrec } from './lrec-steps.js';
import { bestTimes, reportBench } from './report.js';

const USAGE = `usage: pnpm bench:backends [--small] [${deviceNames.join('] [')}]
  names         devices to measure; all by default
  --small       small shapes: whether it runs, not how fast
`;

interface Sizes {
  readonly largest: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly block: LlamaBlockShape;
  readonly model: LlamaShape;
}

const full: Sizes = {
  ...{ largest: 2048, seconds: 3, rounds: 10 },
  block: { tokens: 1024, width: 576, heads: 9, keyValueHeads: 3, inner: 1536 },
  model: { width: 288, inner: 768, blocks: 6, heads: 6, vocabulary: 32000, context: 256 },
};

const small: Sizes = {
  ...{ largest: 128, seconds: 0.05, rounds: 1 },
  block: { tokens: 32, width: 32, heads: 2, keyValueHeads: 1, inner: 64 },
  model: { width: 64, inner: 128, blocks: 1, heads: 2, vocabulary: 256, context: 16 },
};

/** What would take longer at the rate of its matrix products is not measured, in seconds. */
const PATIENCE = 20;

const WINDOWS = 2;
const STEPS = 3;

/** Shares of the device's own rate of matrix products; undefined where a device is too slow to wait for. */
interface Measured {
  readonly gflops: number;
  readonly side: number;
  readonly forward: number | undefined;
  readonly backward: number | undefined;
  readonly lrec: number | undefined;
}

/** Evaluates what `graph` builds, reads the first result, and gives the memory of all back the next time. */
function job(backend: Backend, graph: () => readonly Tensor[]): () => Promise<void> {
  let held: readonly Tensor[] = [];
  return async () => {
    held = await backend.evaluate(graph(), { release: held });
    await read(held[0]);
  };
}

async function measure(backend: Backend, { largest, seconds, rounds, block: shape, model }: Sizes): Promise<Measured> {
  const { flops, side } = await matmulRate(backend, { largest, seconds });
  const block = llamaBlock(shape);
  const weights = block.weights('block');
  const share = async (needed: number, graph: () => readonly Tensor[]): Promise<number | undefined> => {
    if (needed / flops > PATIENCE) return undefined;
    const { run } = await bestTimes({ run: job(backend, graph) }, rounds);
    return needed / flops / (run / 1000);
  };
  const forward = await share(block.flops, () => [block.output(block.x, weights)]);
  const backward = await share(3 * block.flops, () =>
    grad(mean(square(block.output(block.x, weights))), [block.x, ...Object.values(weights)]),
  );
  // A step needs some hundred times as much as a block of its width.
  const isShort = (100 * block.flops) / flops < PATIENCE;
  const steps = isShort ? await measureLrec(backend, model, { windows: WINDOWS, steps: STEPS }) : undefined;
  return { gflops: flops / 1e9, side, forward, backward, lrec: steps && steps.needed / flops / (median(steps.times) / 1000) };
}

const words = process.argv.slice(2);
if (words.includes('--help')) {
  process.stdout.write(USAGE);
  process.exit();
}
const sizes = words.includes('--small') ? small : full;
const named = words.filter((word) => word !== '--small');
const names = named.length > 0 ? await Promise.all(named.map(async (backend) => (await chooseBackend({ backend })).backend)) : deviceNames;

const rows: [string, string][] = [];
const metrics: Record<string, number> = {};
for (const name of names) {
  try {
    const backend = await openBackend({ backend: name });
    const { gflops, side, forward, backward, lrec } = await measure(backend, sizes);
    await backend.dispose();
    const shares = { forward, backward, lrec };
    rows.push([
      name,
      [
        `${gflops.toPrecision(3)} GFLOP/s (${side}-cube)`,
        ...Object.entries(shares).map(([what, share]) => `${what} ${share === undefined ? '-' : share.toFixed(3)}`),
      ].join(', '),
    ]);
    metrics[`${name} gflops`] = gflops;
    for (const [what, share] of Object.entries(shares)) if (share !== undefined) metrics[`${name} ${what}`] = share;
  } catch (error) {
    if (!(error instanceof LowbitError) || !error.code.startsWith('BACKEND_')) throw error;
    rows.push([name, `missing: ${error.message}`]);
  }
}
reportBench(
  'backends',
  [...rows, ['shares', "of the device's own matrix product: block forward, forward and backward, a step of LREC"]],
  metrics,
);

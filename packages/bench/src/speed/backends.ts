// bench:backends: what each device of this machine makes of its own rate of matrix products, on a block and in training.

import { type Backend, grad, LowbitError, mean, read, square, type Tensor } from '@lowbit/core';
import { chooseBackend, deviceNames, openBackend } from '../backends.js';
import { matmulRate } from '../matmul-rate.js';
import { median } from './layer.js';
import { type LlamaShape, syntheticLlama } from './llama.js';
import { type LlamaBlockShape, llamaBlock } from './llama-block.js';
import { measureLrec, stepFlops } from './lrec-steps.js';
import { bestTimes, reportBench } from './report.js';

const USAGE = `usage: pnpm bench:backends [--small] [${deviceNames.join('] [')}]
  names         devices to measure; all by default
  --small       small shapes: whether it runs, not how fast; a device that is too slow for the full ones gets them anyway
`;

interface Sizes {
  readonly largest: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly block: LlamaBlockShape;
  readonly model: LlamaShape;
}

const full: Sizes = {
  ...{ largest: 2048, seconds: 8, rounds: 6 },
  block: { tokens: 1024, width: 576, heads: 9, keyValueHeads: 3, inner: 1536 },
  model: { width: 288, inner: 768, blocks: 6, heads: 6, vocabulary: 32000, context: 256 },
};

const small: Sizes = {
  ...{ largest: 128, seconds: 0.05, rounds: 1 },
  block: { tokens: 32, width: 32, heads: 2, keyValueHeads: 1, inner: 64 },
  model: { width: 64, inner: 128, blocks: 1, heads: 2, vocabulary: 256, context: 16 },
};

/** A device that needs longer for a training step at the rate of its matrix products is measured on the small shapes, in seconds. */
const PATIENCE = 20;

const WINDOWS = 2;
const STEPS = 3;

interface Measured {
  readonly gflops: number;
  readonly side: number;
  /** Whether the device was too slow for the full shapes. */
  readonly isShrunk: boolean;
  /** Of the device's own rate of matrix products. */
  readonly shares: { readonly forward: number; readonly backward: number; readonly lrec: number };
}

/** Evaluates what `graph` builds, reads the first result, and gives the memory of all back the next time. */
function job(backend: Backend, graph: () => readonly Tensor[]): () => Promise<void> {
  let held: readonly Tensor[] = [];
  return async () => {
    held = await backend.evaluate(graph(), { release: held });
    await read(held[0]);
  };
}

async function measure(backend: Backend, sizes: Sizes): Promise<Measured> {
  const { flops, side } = await matmulRate(backend, sizes);
  const isShrunk = stepFlops(syntheticLlama(sizes.model), WINDOWS).needed / flops > PATIENCE;
  const { rounds, block: shape, model } = isShrunk ? small : sizes;
  const block = llamaBlock(shape);
  const weights = block.weights('block');
  const { forward, backward } = await bestTimes(
    {
      forward: job(backend, () => [block.output(block.x, weights)]),
      backward: job(backend, () => grad(mean(square(block.output(block.x, weights))), [block.x, ...Object.values(weights)])),
    },
    rounds,
  );
  const steps = await measureLrec(backend, model, { windows: WINDOWS, steps: STEPS });
  const shareOf = (needed: number, milliseconds: number): number => needed / flops / (milliseconds / 1000);
  return {
    gflops: flops / 1e9,
    side,
    isShrunk,
    shares: {
      forward: shareOf(block.flops, forward),
      backward: shareOf(3 * block.flops, backward),
      lrec: shareOf(steps.needed, median(steps.times)),
    },
  };
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
    const { gflops, side, isShrunk, shares } = await measure(backend, sizes);
    await backend.dispose();
    const parts = [
      `${gflops.toPrecision(3)} GFLOP/s (${side}-cube)`,
      ...Object.entries(shares).map(([what, share]) => `${what} ${share.toFixed(3)}`),
    ];
    rows.push([name, `${parts.join(', ')}${isShrunk ? `; on small shapes: a full step would take over ${PATIENCE} s` : ''}`]);
    metrics[`${name} gflops`] = gflops;
    for (const [what, share] of Object.entries(shares)) metrics[`${name} ${what}${isShrunk ? ' small' : ''}`] = share;
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

// How long work takes on this machine, from a short measurement of its engine.
import { add, type Backend, type Cost, matmul, mul, tensor } from '@lowbit/core';

/** What an engine does in a second. */
export interface EngineRates {
  /** Floating-point operations of one large matrix product. */
  readonly flops: number;
  /** Values of elementwise kernels. */
  readonly elements: number;
}

/** Seconds that the measurement takes, about. */
const MEASURED_SECONDS = 0.3;

/** Order of the product: as large as a block's, small enough to be repeated. */
const ORDER = 512;

/** Values of the elementwise graph: more than a cache holds. */
const VALUES = 2 ** 21;

/** Runs two small graphs for a moment each. */
export async function measureRates(backend: Backend): Promise<EngineRates> {
  const a = tensor(
    Float32Array.from({ length: ORDER * ORDER }, (_, i) => ((i * 37) % 101) / 101 - 0.5),
    [ORDER, ORDER],
  );
  const b = tensor(
    Float32Array.from({ length: ORDER * ORDER }, (_, i) => ((i * 53) % 97) / 97 - 0.5),
    [ORDER, ORDER],
  );
  const x = tensor(new Float32Array(VALUES).fill(0.5), [VALUES]);
  return {
    flops: 2 * ORDER ** 3 * (await runsASecond(() => backend.evaluate([matmul(a, b)]))),
    elements: 2 * VALUES * (await runsASecond(() => backend.evaluate([add(mul(x, x), x)]))),
  };
}

/** The first run compiles the graph and does not count. */
async function runsASecond(run: () => Promise<unknown>): Promise<number> {
  await run();
  const started = performance.now();
  let runs = 0;
  let elapsed = 0;
  while (elapsed < (MEASURED_SECONDS / 2) * 1000) {
    await run();
    runs++;
    elapsed = performance.now() - started;
  }
  return (runs / elapsed) * 1000;
}

/**
 * What real work makes of these rates, measured on the recipes of docs/plan.md: products of a block's shapes are smaller and their operands
 * have to be brought; values are computed by kernels and by loops on the host alike.
 */
const EFFICIENCY = { flops: 0.7, elements: 1 };

/** Seconds of an evaluation beside its kernels. */
const EVALUATION_SECONDS = 0.001;

/** Seconds that a cost takes at some rates. */
export function secondsOf({ flops, elements }: Cost, evaluations: number, rates: EngineRates): number {
  const ofFlops = flops / (rates.flops * EFFICIENCY.flops);
  const ofElements = elements / (rates.elements * EFFICIENCY.elements);
  return ofFlops + ofElements + evaluations * EVALUATION_SECONDS;
}

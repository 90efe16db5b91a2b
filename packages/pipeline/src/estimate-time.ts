// How long work takes on this machine, from a short measurement of its engine.
import { add, type Backend, type Cost, matmul, mul, type Tensor, tensor } from '@lowbit/core';

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

/** Values of the elementwise graph and operations on each: a chain whose values stay near the processor, as those of a batch do. */
const VALUES = 2 ** 18;
const CHAIN = 16;

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
  let chain: Tensor = x;
  for (let i = 0; i < CHAIN; i += 2) chain = add(mul(chain, x), x);
  return {
    flops: 2 * ORDER ** 3 * (await runsASecond(() => backend.evaluate([matmul(a, b)]))),
    elements: CHAIN * VALUES * (await runsASecond(() => backend.evaluate([chain]))),
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
 * What real work makes of the rate of products, measured on the recipes of docs/plan.md: the products of a block are smaller, and their
 * operands have to be brought.
 */
const EFFICIENCY = 0.7;

/** Seconds of an evaluation beside its kernels; of a step before its first one: graphs are compiled, code is. */
const EVALUATION_SECONDS = 0.001;
const STEP_SECONDS = 0.2;

/** Seconds that a step of some cost takes at some rates. */
export function secondsOf({ flops, elements }: Cost, evaluations: number, rates: EngineRates): number {
  return flops / (EFFICIENCY * rates.flops) + elements / rates.elements + evaluations * EVALUATION_SECONDS + STEP_SECONDS;
}

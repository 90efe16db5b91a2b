// How fast a backend multiplies matrices: what its other rates are compared with.
import { type Backend, createRng, matmul, read, tensor } from '@lowbit/core';

export interface MatmulRate {
  /** Floating-point operations a second. */
  readonly flops: number;
  /** Order of the matrices. */
  readonly side: number;
}

export interface MatmulRateOptions {
  /** To measure for, after finding out what fits into it. Default: 1. */
  readonly seconds?: number;
  /** Largest order. Default: 2048. */
  readonly largest?: number;
}

/** Order that is tried first: a product of it takes tens of milliseconds on the slowest backend, and little of a GPU. */
const FIRST = 128;

/** Products that fit into the time at least. */
const RUNS = 4;

/** The rate at the largest order, among doublings of 128, that leaves time for four products: the best of those that fit. The results come back to the host. */
export async function matmulRate(backend: Backend, { seconds = 1, largest = 2048 }: MatmulRateOptions = {}): Promise<MatmulRate> {
  let side = Math.min(FIRST, largest);
  for (;;) {
    const multiply = productOf(backend, side);
    // The first one compiles.
    await multiply();
    let best = await multiply();
    const next = Math.min(2 * side, largest);
    if (next > side && best * (next / side) ** 3 * RUNS < seconds * 1000) {
      side = next;
      continue;
    }
    for (const end = performance.now() + seconds * 1000; performance.now() < end; ) best = Math.min(best, await multiply());
    return { flops: (2 * side ** 3) / (best / 1000), side };
  }
}

/** Multiplies two matrices and returns the milliseconds that it took. */
function productOf(backend: Backend, side: number): () => Promise<number> {
  const [a, b] = ['a', 'b'].map((name) =>
    tensor(
      createRng(0)
        .at(name)
        .normal(side * side),
      [side, side],
    ),
  );
  return async () => {
    const start = performance.now();
    const [product] = await backend.evaluate([matmul(a, b)]);
    await read(product);
    const milliseconds = performance.now() - start;
    await backend.evaluate([], { release: [product] });
    return milliseconds;
  };
}

// How fast a backend multiplies matrices: what its other rates are compared with.
import { type Backend, createRng, matmul, read, slice, tensor } from '@lowbit/core';

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

/** Order that is tried first: its products take a tenth of a second on the slowest backend, and little of a GPU. */
const FIRST = 128;

/** Products in a row, so that bringing the result back does not count much. */
const PRODUCTS = 4;

/** Times that they fit into the time at least. */
const RUNS = 2;

/** The best rate at the largest order, among doublings of 128, that leaves time for some runs of four products in a row. */
export async function matmulRate(backend: Backend, { seconds = 1, largest = 2048 }: MatmulRateOptions = {}): Promise<MatmulRate> {
  let side = Math.min(FIRST, largest);
  for (;;) {
    const multiply = productsOf(backend, side);
    // The first one compiles.
    await multiply();
    let best = await multiply();
    const next = Math.min(2 * side, largest);
    if (next > side && best * (next / side) ** 3 * RUNS < seconds * 1000) {
      side = next;
      continue;
    }
    for (const end = performance.now() + seconds * 1000; performance.now() < end; ) best = Math.min(best, await multiply());
    return { flops: (PRODUCTS * 2 * side ** 3) / (best / 1000), side };
  }
}

/** Multiplies matrices one after the other, reads a row of the last product, and returns the milliseconds that it took. */
function productsOf(backend: Backend, side: number): () => Promise<number> {
  const rng = createRng(0);
  const [a, b] = ['a', 'b'].map((name) =>
    tensor(
      rng
        .at(name)
        .normal(side * side)
        .map((value) => value / Math.sqrt(side)),
      [side, side],
    ),
  );
  return async () => {
    const start = performance.now();
    let product = a;
    for (let i = 0; i < PRODUCTS; i++) product = matmul(product, b);
    const [row] = await backend.evaluate([slice(product, 0, 0, 1)]);
    await read(row);
    return performance.now() - start;
  };
}

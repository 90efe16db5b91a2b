// What the speed benchmarks of layer solvers share: a synthetic layer, the machine's raw matrix product rate, and counted flops.
import { type Backend, createRng, matmul, readFloats, type Tensor, tensor } from '@lowbit/core';

export const SIZE = 4096;
/** Order of the raw product. */
export const RAW_SIZE = 1024;
/** Raw products timed before and after each measurement. */
const RAW_REPEATS = 7;

const rng = createRng(0);

/** Gram matrix of inputs whose sizes fall off and which share a few directions, as activations do. */
export async function syntheticGram(backend: Backend): Promise<Float32Array> {
  const noise = rng.at('inputs').uniform(SIZE * SIZE);
  const inputs = new Float32Array(SIZE * SIZE);
  for (let row = 0, at = 0; row < SIZE; row++) {
    const shared = noise[row] - 0.5;
    for (let column = 0; column < SIZE; column++, at++) inputs[at] = (noise[at] - 0.5 + 0.5 * shared) * (1 + 20 / (1 + (column % 97)));
  }
  const x = tensor(inputs, [SIZE, SIZE]);
  const [gram] = await backend.evaluate([matmul(x, x, { transposeA: true })]);
  return readFloats(gram);
}

/** A weight [rows, SIZE]. */
export function syntheticWeight(rows: number): Float32Array {
  return rng
    .at('weight')
    .uniform(rows * SIZE)
    .map((value) => (value - 0.5) * 0.1);
}

/** Milliseconds that some work takes, and what it gives. */
export async function timed<T>(work: () => Promise<T>): Promise<[number, T]> {
  const start = performance.now();
  const result = await work();
  return [performance.now() - start, result];
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.floor(middle)] + sorted[Math.ceil(middle) - 1]) / 2;
}

/** Does some work and times raw products before and after it: their median in milliseconds. */
export type AroundRaw = <T>(work: () => Promise<T>) => Promise<{ readonly raw: number; readonly result: T }>;

/** The machine's speed may drift, so raw products are timed before and after what is compared with them. */
export async function rawMeter(backend: Backend): Promise<AroundRaw> {
  const square = (name: string): Tensor => tensor(rng.at(name).normal(RAW_SIZE * RAW_SIZE), [RAW_SIZE, RAW_SIZE]);
  const [a, b] = [square('a'), square('b')];
  const rawTimes = async (): Promise<number[]> => {
    const times: number[] = [];
    for (let i = 0; i < RAW_REPEATS; i++) times.push((await timed(() => backend.evaluate([matmul(a, b)])))[0]);
    return times;
  };
  await rawTimes();
  return async (work) => {
    const before = await rawTimes();
    const result = await work();
    return { raw: median([...before, ...(await rawTimes())]), result };
  };
}

/** Milliseconds that some flops take at the rate of a raw product of `raw` milliseconds. */
export function millisecondsAt(raw: number, flops: number): number {
  return (raw * flops) / (2 * RAW_SIZE ** 3);
}

/** A backend that counts the matrix products it is asked for: 2·rows·inner·columns each, everything else nothing. */
export function countingBackend(backend: Backend): { readonly backend: Backend; takeFlops(): number } {
  let flops = 0;
  const counted: Backend = {
    name: backend.name,
    fingerprint: backend.fingerprint,
    get statistics() {
      return backend.statistics;
    },
    evaluate(tensors, options) {
      flops += productFlops(tensors);
      return backend.evaluate(tensors, options);
    },
    dispose: () => backend.dispose(),
  };
  const takeFlops = (): number => {
    const taken = flops;
    flops = 0;
    return taken;
  };
  return { backend: counted, takeFlops };
}

function productFlops(roots: readonly Tensor[]): number {
  const seen = new Set<Tensor>();
  const open = [...roots];
  let flops = 0;
  for (let node = open.pop(); node; node = open.pop()) {
    if (seen.has(node) || node.source.kind === 'leaf') continue;
    seen.add(node);
    const { op, inputs, attributes } = node.source;
    if (op === 'matmul') flops += 2 * node.size * inputs[0].shape[inputs[0].rank - (attributes.transposeA ? 2 : 1)];
    open.push(...inputs);
  }
  return flops;
}

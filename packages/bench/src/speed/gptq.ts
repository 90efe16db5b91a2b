// bench:gptq: factor and sweep of one 4096×4096 layer, against the time 4·n³ flops take at the machine's raw matrix product rate.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, createRng, matmul, readFloats, tensor } from '@lowbit/core';
import { fitGrid, gptqFactor, gptqSolve } from '@lowbit/quant';
import { reportBench } from './report.js';

const SIZE = 4096;
const BITS = 4;
const GROUP_SIZE = 128;
const RAW_SIZE = 1024;
const ROUNDS = 5;
/** Raw products timed before and after each solve. */
const RAW_REPEATS = 7;

const rng = createRng(0);

/** Gram matrix of inputs whose sizes fall off and which share a few directions, as activations do. */
async function syntheticGram(backend: Backend): Promise<Float32Array> {
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

async function timed<T>(work: () => Promise<T>): Promise<[number, T]> {
  const start = performance.now();
  const result = await work();
  return [performance.now() - start, result];
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.floor(middle)] + sorted[Math.ceil(middle) - 1 + (sorted.length % 2)]) / 2;
}

const backend = await createOnnxBackend();
const square = (name: string) => tensor(rng.at(name).normal(RAW_SIZE * RAW_SIZE), [RAW_SIZE, RAW_SIZE]);
const [a, b] = [square('a'), square('b')];
const weight = rng
  .at('weight')
  .uniform(SIZE * SIZE)
  .map((value) => (value - 0.5) * 0.1);
const grid = fitGrid(weight, [SIZE, SIZE], { bits: BITS, groupSize: GROUP_SIZE, symmetric: false, scaleDtype: 'float16', clip: 'minmax' });
const gram = await syntheticGram(backend);

async function rawTimes(): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < RAW_REPEATS; i++) times.push((await timed(() => backend.evaluate([matmul(a, b)])))[0]);
  return times;
}

await rawTimes();
const rounds: { readonly raw: number; readonly factor: number; readonly sweep: number; readonly ratio: number }[] = [];
let relativeError = 0;
for (let round = 0; round <= ROUNDS; round++) {
  const before = await rawTimes();
  const [factorTime, factor] = await timed(() => gptqFactor(backend, gram, SIZE, { actOrder: true }));
  const [sweepTime, solved] = await timed(() => gptqSolve(backend, factor, weight, grid));
  const raw = median([...before, ...(await rawTimes())]);
  const unit = (raw * (4 * SIZE ** 3)) / (2 * RAW_SIZE ** 3);
  rounds.push({ raw, factor: factorTime, sweep: sweepTime, ratio: (factorTime + sweepTime) / unit });
  ({ relativeError } = solved);
}
await backend.dispose();

const [first, ...warm] = rounds;
const of = (pick: (round: (typeof rounds)[number]) => number): number => median(warm.map(pick));
const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(2)} s`;
const rawRate = (2 * RAW_SIZE ** 3) / of(({ raw }) => raw) / 1e6;
reportBench(
  'gptq',
  [
    ['layer', `${SIZE}×${SIZE}, ${BITS} bits, groups of ${GROUP_SIZE}, activation order`],
    [`raw ${RAW_SIZE}-cube matmul`, `${rawRate.toFixed(0)} GFLOP/s`],
    ['4·n³ flops at that rate', seconds((4 * SIZE ** 3) / rawRate / 1e6)],
    ['factor of the Gram matrix', seconds(of(({ factor }) => factor))],
    ['sweep, with the error measured', seconds(of(({ sweep }) => sweep))],
    ['first run, compiling', seconds(first.factor + first.sweep)],
    ['relative error', relativeError.toExponential(3)],
    ['ratio of each round', warm.map(({ ratio }) => ratio.toFixed(2)).join(', ')],
  ],
  {
    solverRatio: of(({ ratio }) => ratio),
    factorSeconds: of(({ factor }) => factor) / 1000,
    sweepSeconds: of(({ sweep }) => sweep) / 1000,
  },
);

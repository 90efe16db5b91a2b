// bench:gptq: factor and sweep of one 4096×4096 layer, against the time 4·n³ flops take at the machine's raw matrix product rate.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { fitGrid, gptqFactor, gptqSolve } from '@lowbit/quant';
import { median, millisecondsAt, RAW_SIZE, rawMeter, SIZE, syntheticGram, syntheticWeight, timed } from './layer.js';
import { reportBench } from './report.js';

const BITS = 4;
const GROUP_SIZE = 128;
const ROUNDS = 5;

const backend = await createOnnxBackend();
const aroundRaw = await rawMeter(backend);
const weight = syntheticWeight(SIZE);
const grid = fitGrid(weight, [SIZE, SIZE], { bits: BITS, groupSize: GROUP_SIZE, symmetric: false, scaleDtype: 'float16', clip: 'minmax' });
const gram = await syntheticGram(backend);

const rounds: { readonly raw: number; readonly factor: number; readonly sweep: number; readonly ratio: number }[] = [];
let relativeError = 0;
for (let round = 0; round <= ROUNDS; round++) {
  const { raw, result } = await aroundRaw(async () => {
    const [factorTime, factor] = await timed(() => gptqFactor(backend, gram, SIZE, { actOrder: true }));
    const [sweepTime, solved] = await timed(() => gptqSolve(backend, factor, weight, grid));
    return { factorTime, sweepTime, solved };
  });
  const { factorTime, sweepTime, solved } = result;
  const ratio = (factorTime + sweepTime) / millisecondsAt(raw, 4 * SIZE ** 3);
  rounds.push({ raw, factor: factorTime, sweep: sweepTime, ratio });
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

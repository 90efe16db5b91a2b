// bench:decoupleq: the layer phase of decoupleQ on one 4096×4096 layer at 2 bits in groups of 64, against GPTQ's solver in the same run and
// against the time that its matrix products take at the machine's raw rate; and how its memory grows with the layer.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import type { Backend } from '@lowbit/core';
import { codeStepOf, type DecoupleqInput, decouple, decoupleqOptions } from '@lowbit/decoupleq';
import { fitGrid, gptqFactor, gptqSolve } from '@lowbit/quant';
import { countingBackend, median, millisecondsAt, RAW_SIZE, rawMeter, SIZE, syntheticGram, syntheticWeight, timed } from './layer.js';
import { reportBench } from './report.js';

const BITS = 2;
const GROUP_SIZE = 64;
const ROUNDS = 3;
/** Projected Adam makes the default preset cost tens of seconds a code step; every row costs the same, so a part of the layer will do. */
const DEFAULT_ROWS = 1024;
const MEMORY_ROWS = [1024, 2048, 4096] as const;

const paper = { preset: 'paper', search: 'coarse-to-fine', groupSize: GROUP_SIZE, bits: BITS } as const;

/** The layer phase as the method runs it: damped Hessian, factor, alternation. */
async function layerPhase(backend: Backend, gram: Float32Array, weight: Float32Array, input: DecoupleqInput): Promise<number> {
  const options = decoupleqOptions.parse(input);
  const hessian = gram.slice();
  const trace = hessian.reduce((total, value, i) => (i % (SIZE + 1) === 0 ? total + value : total), 0);
  for (let i = 0; i < SIZE; i++) hessian[i * (SIZE + 1)] += (options.dampening * trace) / SIZE;
  const factor = await gptqFactor(backend, hessian, SIZE, { dampening: options.factorDampening, actOrder: options.actOrder });
  const { bits, groupSize, zero } = options;
  const layer = { backend, weight, outFeatures: weight.length / SIZE, inFeatures: SIZE, bits, groupSize, zero, hessian, factor };
  const { loss } = await decouple(layer, { ...options, codeStep: codeStepOf(options) });
  return loss;
}

/** Run with a number of rows: the process's peak memory after one layer phase, as bytes on standard output. */
async function measureMemory(rows: number): Promise<void> {
  const backend = await createOnnxBackend();
  // No product of inputs here: it would be the peak. Any positive definite matrix has the same cost.
  const gram = new Float32Array(SIZE * SIZE);
  for (let i = 0; i < SIZE; i++) for (let j = 0; j < SIZE; j++) gram[i * SIZE + j] = 1 / (1 + Math.abs(i - j));
  await layerPhase(backend, gram, syntheticWeight(rows), { ...paper, iterations: 2 });
  await backend.dispose();
  process.stdout.write(`${process.resourceUsage().maxRSS * 1024}\n`);
}

async function main(): Promise<void> {
  const script = fileURLToPath(import.meta.url);
  const peaks = MEMORY_ROWS.map((rows) => Number(execFileSync(process.execPath, [...process.execArgv, script, String(rows)])));
  const [few, half, whole] = peaks;
  const [fewRows, halfRows, allRows] = MEMORY_ROWS;
  const bytesPerWeight = (whole - few) / ((allRows - fewRows) * SIZE);
  const bend = (half - few - bytesPerWeight * (halfRows - fewRows) * SIZE) / whole;

  const engine = await createOnnxBackend();
  const aroundRaw = await rawMeter(engine);
  const { backend, takeFlops } = countingBackend(engine);
  const weight = syntheticWeight(SIZE);
  const gram = await syntheticGram(engine);
  const grid = fitGrid(weight, [SIZE, SIZE], {
    bits: BITS,
    groupSize: GROUP_SIZE,
    symmetric: false,
    scaleDtype: 'float16',
    clip: 'minmax',
  });
  const solveGptq = async (): Promise<number> => {
    const factor = await gptqFactor(backend, gram, SIZE, { actOrder: true });
    return (await gptqSolve(backend, factor, weight, grid)).relativeError;
  };

  const rounds: { raw: number; gptq: number; paper: number; paperFlops: number; gptqLoss: number; loss: number }[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const { raw, result } = await aroundRaw(async () => {
      const [gptq, gptqLoss] = await timed(solveGptq);
      takeFlops();
      const [paperTime, loss] = await timed(() => layerPhase(backend, gram, weight, paper));
      return { gptq, gptqLoss, paper: paperTime, loss, paperFlops: takeFlops() };
    });
    rounds.push({ raw, ...result });
  }
  const part = weight.slice(0, DEFAULT_ROWS * SIZE);
  const relaxed = await aroundRaw(async () => {
    const [time, loss] = await timed(() => layerPhase(backend, gram, part, { groupSize: GROUP_SIZE, bits: BITS }));
    return { time, loss, flops: takeFlops() };
  });
  await engine.dispose();

  const [first, ...warm] = rounds;
  const of = (pick: (round: (typeof rounds)[number]) => number): number => median(warm.map(pick));
  const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(2)} s`;
  const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2)} GB`;
  const rate = (raw: number): string => `${((2 * RAW_SIZE ** 3) / raw / 1e6).toFixed(0)} GFLOP/s`;
  const paperFlopShare = of(({ raw, paper, paperFlops }) => millisecondsAt(raw, paperFlops) / paper);
  const defaultFlopShare = millisecondsAt(relaxed.raw, relaxed.result.flops) / relaxed.result.time;
  reportBench(
    'decoupleq',
    [
      ['layer', `${SIZE}×${SIZE}, ${BITS} bits, groups of ${GROUP_SIZE}, activation order`],
      [`raw ${RAW_SIZE}-cube matmul`, rate(of(({ raw }) => raw))],
      ['GPTQ: factor, sweep, error', seconds(of(({ gptq }) => gptq))],
      ['paper preset, coarse-to-fine: factor and alternation', seconds(of(({ paper }) => paper))],
      ['first run of it, compiling', seconds(first.paper)],
      ['its matrix products, Σ 2·rows·inner·columns', `${(of(({ paperFlops }) => paperFlops) / 1e12).toFixed(2)} TFLOP`],
      ['their share: time at the raw rate / time', paperFlopShare.toFixed(3)],
      ['relative error, GPTQ and decoupleQ (dampened)', `${first.gptqLoss.toExponential(3)}, ${first.loss.toExponential(3)}`],
      [`default preset, ${DEFAULT_ROWS} of ${SIZE} rows`, seconds(relaxed.result.time)],
      ['its matrix products', `${(relaxed.result.flops / 1e12).toFixed(2)} TFLOP; raw rate around it ${rate(relaxed.raw)}`],
      ['their share', defaultFlopShare.toFixed(3)],
      ['its relative error', relaxed.result.loss.toExponential(3)],
      ['peak memory by rows', MEMORY_ROWS.map((rows, i) => `${rows}: ${gigabytes(peaks[i])}`).join(', ')],
      ['half the rows, away from the line through the others', `${(100 * bend).toFixed(1)} % of the peak`],
      ['growth', `${bytesPerWeight.toFixed(0)} bytes a weight`],
      ['paper / GPTQ of each round', warm.map(({ paper, gptq }) => (paper / gptq).toFixed(2)).join(', ')],
    ],
    {
      paperOverGptq: of(({ paper, gptq }) => paper / gptq),
      paperFlopShare,
      defaultFlopShare,
      paperSeconds: of(({ paper }) => paper) / 1000,
      peakGigabytes: whole / 1e9,
      bytesPerWeight,
      memoryBend: bend,
    },
  );
}

if (process.argv[2]) await measureMemory(Number(process.argv[2]));
else await main();

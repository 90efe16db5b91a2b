// bench:engine: how close graphs on the default backend come to the machine's raw matrix product rate, and what dispatch costs.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { add, type Backend, grad, matmul, mean, mul, square, type Tensor } from '@lowbit/core';
import { llamaBlock, normalTensor } from './llama-block.js';
import { bestTimes, reportBench } from './report.js';

const ROUNDS = 20;

const block = llamaBlock({ tokens: 1024, width: 576, heads: 9, keyValueHeads: 3, inner: 1536 });

/** Evaluates what `graph` builds and gives the results' memory back the next time. */
function job(backend: Backend, graph: () => readonly Tensor[]): () => Promise<void> {
  let held: readonly Tensor[] = [];
  return async () => {
    held = await backend.evaluate(graph(), { release: held });
  };
}

/** Milliseconds that evaluating a cached graph of 150 small nodes takes beyond the engine's run: median of many. */
async function dispatchTime(backend: Backend): Promise<number> {
  const start = normalTensor('dispatch', [8, 8]);
  const graph = (): Tensor => {
    let x = start;
    for (let i = 0; i < 50; i++) x = add(mul(matmul(x, start), 0.5 + i), x);
    return x;
  };
  const times: number[] = [];
  for (let i = 0; i < 300; i++) {
    const y = graph();
    const engineBefore = backend.statistics.engineMilliseconds;
    const before = performance.now();
    await backend.evaluate([y]);
    times.push(performance.now() - before - (backend.statistics.engineMilliseconds - engineBefore));
  }
  return times.sort((a, b) => a - b)[times.length / 2];
}

/** Programs compiled for a forward pass through six blocks with weights of their own. */
async function compilationsOfModel(): Promise<number> {
  const backend = await createOnnxBackend();
  let { x } = block;
  for (let i = 0; i < 6; i++) [x] = await backend.evaluate([block.output(x, block.weights(`block ${i}`))]);
  const { compilations } = backend.statistics;
  await backend.dispose();
  return compilations;
}

const backend = await createOnnxBackend();
const [a, b] = [normalTensor('a', [1024, 1024]), normalTensor('b', [1024, 1024])];
const { x, flops } = block;
const weights = block.weights('block');
const best = await bestTimes(
  {
    raw: job(backend, () => [matmul(a, b)]),
    forward: job(backend, () => [block.output(x, weights)]),
    raw2: job(backend, () => [matmul(a, b)]),
    backward: job(backend, () => grad(mean(square(block.output(x, weights))), [x, ...Object.values(weights)])),
  },
  ROUNDS,
);
const rawRate = (2 * 1024 ** 3) / Math.min(best.raw, best.raw2) / 1e6;
const forwardRate = flops / best.forward / 1e6;
const backwardRate = (3 * flops) / best.backward / 1e6;
const dispatchMs = await dispatchTime(backend);
const compilations = await compilationsOfModel();
await backend.dispose();

reportBench(
  'engine',
  [
    ['raw 1024-cube matmul', `${rawRate.toFixed(0)} GFLOP/s`],
    ['block forward', `${forwardRate.toFixed(0)} GFLOP/s in ${best.forward.toFixed(1)} ms`],
    ['block forward + backward', `${backwardRate.toFixed(0)} GFLOP/s in ${best.backward.toFixed(1)} ms`],
    ['forward / raw', (forwardRate / rawRate).toFixed(3)],
    ['forward + backward / raw', (backwardRate / rawRate).toFixed(3)],
    ['dispatch of 150 cached nodes', `${dispatchMs.toFixed(3)} ms beyond the engine's run`],
    ['programs for six blocks', String(compilations)],
    ['counted', `products performed: causal attention at ${block.attentionShare} of the full square`],
  ],
  { forwardRatio: forwardRate / rawRate, backwardRatio: backwardRate / rawRate, dispatchMs, compilations },
);

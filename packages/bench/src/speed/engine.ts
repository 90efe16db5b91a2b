// bench:engine: how close graphs on the default backend come to the machine's raw matrix product rate, and what dispatch costs.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import {
  add,
  attention,
  type Backend,
  createRng,
  grad,
  linear,
  matmul,
  mean,
  mul,
  reshape,
  rmsNorm,
  rope,
  silu,
  square,
  type Tensor,
  tensor,
  transpose,
} from '@lowbit/core';
import { bestTimes, reportBench } from './report.js';

const TOKENS = 1024;
const WIDTH = 576;
const HEADS = 9;
const KEY_VALUE_HEADS = 3;
const INNER = 1536;
const HEAD_DIM = WIDTH / HEADS;
const ROUNDS = 20;

const rng = createRng(0);
const random = (name: string, shape: readonly number[], scale = 0.05): Tensor =>
  tensor(
    rng
      .at(name)
      .normal(shape.reduce((a, b) => a * b, 1))
      .map((v) => v * scale),
    shape,
  );

interface Weights {
  readonly [name: string]: Tensor;
}

function randomWeights(name: string): Weights {
  const kv = KEY_VALUE_HEADS * HEAD_DIM;
  const shapes = {
    inputNorm: [WIDTH],
    q: [WIDTH, WIDTH],
    k: [kv, WIDTH],
    v: [kv, WIDTH],
    o: [WIDTH, WIDTH],
    postNorm: [WIDTH],
    gate: [INNER, WIDTH],
    up: [INNER, WIDTH],
    down: [WIDTH, INNER],
  };
  return Object.fromEntries(Object.entries(shapes).map(([key, shape]) => [key, random(`${name}.${key}`, shape)]));
}

const angles = Float32Array.from({ length: (TOKENS * HEAD_DIM) / 2 }, (_, i) => {
  const pair = i % (HEAD_DIM / 2);
  return Math.floor(i / (HEAD_DIM / 2)) * 10000 ** (-pair / (HEAD_DIM / 2));
});
const cos = tensor(angles.map(Math.cos), [TOKENS, HEAD_DIM / 2]);
const sin = tensor(angles.map(Math.sin), [TOKENS, HEAD_DIM / 2]);

function block(x: Tensor, w: Weights): Tensor {
  const heads = (y: Tensor, count: number): Tensor => transpose(reshape(y, [1, TOKENS, count, HEAD_DIM]), [0, 2, 1, 3]);
  const h = rmsNorm(x, w.inputNorm, { epsilon: 1e-5 });
  const q = rope(heads(linear(h, w.q), HEADS), cos, sin);
  const k = rope(heads(linear(h, w.k), KEY_VALUE_HEADS), cos, sin);
  const mixed = attention(q, k, heads(linear(h, w.v), KEY_VALUE_HEADS));
  const attended = add(x, linear(reshape(transpose(mixed, [0, 2, 1, 3]), [1, TOKENS, WIDTH]), w.o));
  const h2 = rmsNorm(attended, w.postNorm, { epsilon: 1e-5 });
  return add(attended, linear(mul(silu(linear(h2, w.gate)), linear(h2, w.up)), w.down));
}

/** Products that causal attention performs: a query chunk of 256 positions meets the keys up to its own end. */
const ATTENTION_SHARE = (TOKENS / 256 + 1) / (2 * (TOKENS / 256));
const flopsOfLinears = 2 * TOKENS * (2 * WIDTH * WIDTH + 2 * KEY_VALUE_HEADS * HEAD_DIM * WIDTH + 3 * WIDTH * INNER);
const flopsOfBlock = flopsOfLinears + 4 * TOKENS * TOKENS * WIDTH * ATTENTION_SHARE;

/** Evaluates what `graph` builds and gives the results' memory back the next time. */
function job(backend: Backend, graph: () => readonly Tensor[]): () => Promise<void> {
  let held: readonly Tensor[] = [];
  return async () => {
    held = await backend.evaluate(graph(), { release: held });
  };
}

/** Milliseconds that evaluating a cached graph of 150 small nodes takes beyond the engine's run: median of many. */
async function dispatchTime(backend: Backend): Promise<number> {
  const start = random('dispatch', [8, 8]);
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
  let x = random('x', [1, TOKENS, WIDTH], 1);
  for (let i = 0; i < 6; i++) [x] = await backend.evaluate([block(x, randomWeights(`block ${i}`))]);
  const { compilations } = backend.statistics;
  await backend.dispose();
  return compilations;
}

const backend = await createOnnxBackend();
const [a, b] = [random('a', [1024, 1024]), random('b', [1024, 1024])];
const x = random('x', [1, TOKENS, WIDTH], 1);
const weights = randomWeights('block');
const best = await bestTimes(
  {
    raw: job(backend, () => [matmul(a, b)]),
    forward: job(backend, () => [block(x, weights)]),
    raw2: job(backend, () => [matmul(a, b)]),
    backward: job(backend, () => grad(mean(square(block(x, weights))), [x, ...Object.values(weights)])),
  },
  ROUNDS,
);
const rawRate = (2 * 1024 ** 3) / Math.min(best.raw, best.raw2) / 1e6;
const forwardRate = flopsOfBlock / best.forward / 1e6;
const backwardRate = (3 * flopsOfBlock) / best.backward / 1e6;
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
    ['counted', `products performed: causal attention at ${ATTENTION_SHARE} of the full square`],
  ],
  { forwardRatio: forwardRate / rawRate, backwardRatio: backwardRate / rawRate, dispatchMs, compilations },
);

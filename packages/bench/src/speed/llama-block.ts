// One Llama block as a graph, of any size, and the flops of its products: what backends are measured on.
import { add, attention, createRng, linear, mul, reshape, rmsNorm, rope, silu, type Tensor, tensor, transpose } from '@lowbit/core';

export interface LlamaBlockShape {
  /** A multiple of 256 from 256 on, or less. */
  readonly tokens: number;
  readonly width: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly inner: number;
}

export interface LlamaBlock {
  /** [1, tokens, width] */
  readonly x: Tensor;
  /** Weights of its own for every name. */
  weights(name: string): Readonly<Record<string, Tensor>>;
  output(x: Tensor, weights: Readonly<Record<string, Tensor>>): Tensor;
  /** Of a forward pass: the products that are performed. */
  readonly flops: number;
  /** Of the full square of attention's scores, the part that is performed. */
  readonly attentionShare: number;
}

/** Products that causal attention performs: a chunk of so many queries meets the keys up to its own end. */
const QUERY_CHUNK = 256;

const rng = createRng(0);

export function normalTensor(name: string, shape: readonly number[], deviation = 0.05): Tensor {
  const draws = rng.at(name).normal(shape.reduce((a, b) => a * b, 1));
  return tensor(
    draws.map((draw) => draw * deviation),
    shape,
  );
}

export function llamaBlock({ tokens, width, heads, keyValueHeads, inner }: LlamaBlockShape): LlamaBlock {
  const headDim = width / heads;
  const keyWidth = keyValueHeads * headDim;
  const shapes = {
    inputNorm: [width],
    q: [width, width],
    k: [keyWidth, width],
    v: [keyWidth, width],
    o: [width, width],
    postNorm: [width],
    gate: [inner, width],
    up: [inner, width],
    down: [width, inner],
  };
  const angles = Float32Array.from({ length: (tokens * headDim) / 2 }, (_, i) => {
    const pair = i % (headDim / 2);
    return Math.floor(i / (headDim / 2)) * 10000 ** (-pair / (headDim / 2));
  });
  const cos = tensor(angles.map(Math.cos), [tokens, headDim / 2]);
  const sin = tensor(angles.map(Math.sin), [tokens, headDim / 2]);
  const split = (y: Tensor, count: number): Tensor => transpose(reshape(y, [1, tokens, count, headDim]), [0, 2, 1, 3]);
  const chunks = Math.max(1, tokens / QUERY_CHUNK);
  const attentionShare = (chunks + 1) / (2 * chunks);
  const ofLinears = 2 * tokens * (2 * width * width + 2 * keyWidth * width + 3 * width * inner);
  return {
    x: normalTensor('x', [1, tokens, width], 1),
    weights: (name) => Object.fromEntries(Object.entries(shapes).map(([key, shape]) => [key, normalTensor(`${name}.${key}`, shape)])),
    output(x, w) {
      const h = rmsNorm(x, w.inputNorm, { epsilon: 1e-5 });
      const q = rope(split(linear(h, w.q), heads), cos, sin);
      const k = rope(split(linear(h, w.k), keyValueHeads), cos, sin);
      const mixed = attention(q, k, split(linear(h, w.v), keyValueHeads));
      const attended = add(x, linear(reshape(transpose(mixed, [0, 2, 1, 3]), [1, tokens, width]), w.o));
      const h2 = rmsNorm(attended, w.postNorm, { epsilon: 1e-5 });
      return add(attended, linear(mul(silu(linear(h2, w.gate)), linear(h2, w.up)), w.down));
    },
    flops: ofLinears + 4 * tokens * tokens * width * attentionShare,
    attentionShare,
  };
}

// A second implementation of the forward passes of GPT-2 and OPT: float64 loops over one sequence, sharing no code with the toolkit.
// Written from the papers: Radford et al. 2019 (GPT-2), arXiv 2205.01068 (OPT), 1607.06450 (LayerNorm), 1606.08415 (GELU), and from
// what config.json files mean.
import type { Weights } from './independent-forward.js';

type Vector = Float64Array;

/** Where the parts of one model lie, and what differs between families. */
interface Names {
  readonly tokens: string;
  readonly positions: string;
  /** Row of position 0. */
  readonly firstPosition: number;
  readonly block: (index: number) => string;
  readonly attentionNorm: string;
  readonly mlpNorm: string;
  readonly lastNorm: string;
  /** Queries, keys and values of a block's normalized input. */
  readonly project: (path: string, x: Vector) => [Vector, Vector, Vector];
  readonly apply: (path: string, x: Vector) => Vector;
  readonly attentionOutput: string;
  readonly mlpInput: string;
  readonly mlpOutput: string;
  readonly activation: (x: number) => number;
  readonly epsilon: number;
}

export interface LayerNormSizes {
  readonly width: number;
  readonly blocks: number;
  readonly heads: number;
  /** Path of the head; the token embedding where the two are tied. */
  readonly head: string;
}

const read = (weights: Weights, name: string): Float32Array => {
  const found = weights.get(name);
  if (!found) throw new Error(`no ${name}`);
  return found;
};

function rows(table: Float32Array, row: number, width: number): Vector {
  return Float64Array.from(table.subarray(row * width, (row + 1) * width));
}

/** y[o] = Σ w[o, i] x[i] + b[o]. */
function byRows(weights: Weights, path: string, x: Vector): Vector {
  const weight = read(weights, `${path}.weight`);
  const bias = weights.get(`${path}.bias`);
  return Float64Array.from({ length: weight.length / x.length }, (_, o) => {
    let sum = bias ? bias[o] : 0;
    x.forEach((value, i) => {
      sum += weight[o * x.length + i] * value;
    });
    return sum;
  });
}

/** y[o] = Σ x[i] w[i, o] + b[o]: the weight of a Conv1D. */
function byColumns(weights: Weights, path: string, x: Vector): Vector {
  const weight = read(weights, `${path}.weight`);
  const out = Float64Array.from(read(weights, `${path}.bias`));
  x.forEach((value, i) => {
    for (let o = 0; o < out.length; o++) out[o] += weight[i * out.length + o] * value;
  });
  return out;
}

function layerNormalized(weights: Weights, path: string, x: Vector, epsilon: number): Vector {
  const mean = x.reduce((a, b) => a + b, 0) / x.length;
  const variance = x.reduce((total, value) => total + (value - mean) ** 2, 0) / x.length;
  const [gain, shift] = [read(weights, `${path}.weight`), read(weights, `${path}.bias`)];
  return x.map((value, i) => ((value - mean) / Math.sqrt(variance + epsilon)) * gain[i] + shift[i]);
}

/** Φ by Simpson's rule over the density from 0 to x: 1e-14 for the magnitudes of a small model. */
function normalCumulative(x: number): number {
  const steps = 4000;
  const h = x / steps;
  const density = (t: number): number => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
  let total = density(0) + density(x);
  for (let i = 1; i < steps; i++) total += (i % 2 === 1 ? 4 : 2) * density(i * h);
  return 0.5 + (total * h) / 3;
}

const activations: Readonly<Record<string, (x: number) => number>> = {
  relu: (x) => Math.max(x, 0),
  gelu: (x) => x * normalCumulative(x),
  gelu_new: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

function causalAttention(queries: Vector[], keys: Vector[], values: Vector[], heads: number): Vector[] {
  const width = queries[0].length;
  const headDim = width / heads;
  return queries.map((query, t) => {
    const joined = new Float64Array(width);
    for (let h = 0; h < heads; h++) {
      const from = h * headDim;
      const scores = Array.from({ length: t + 1 }, (_, s) => {
        let dot = 0;
        for (let i = from; i < from + headDim; i++) dot += query[i] * keys[s][i];
        return dot / Math.sqrt(headDim);
      });
      const peak = Math.max(...scores);
      const exps = scores.map((score) => Math.exp(score - peak));
      const total = exps.reduce((a, b) => a + b, 0);
      exps.forEach((e, s) => {
        for (let i = from; i < from + headDim; i++) joined[i] += (e / total) * values[s][i];
      });
    }
    return joined;
  });
}

function logits(weights: Weights, { width, blocks, heads, head }: LayerNormSizes, names: Names, tokens: ArrayLike<number>): Vector[] {
  const [table, positions] = [read(weights, `${names.tokens}.weight`), read(weights, `${names.positions}.weight`)];
  const added = (a: Vector, b: Vector): Vector => a.map((value, i) => value + b[i]);
  let stream = Array.from(tokens, (token, t) => added(rows(table, token, width), rows(positions, t + names.firstPosition, width)));
  for (let index = 0; index < blocks; index++) {
    const path = names.block(index);
    const projected = stream.map((x) => names.project(path, layerNormalized(weights, `${path}.${names.attentionNorm}`, x, names.epsilon)));
    const joined = causalAttention(
      projected.map(([query]) => query),
      projected.map(([, key]) => key),
      projected.map(([, , value]) => value),
      heads,
    );
    stream = stream.map((x, t) => {
      const attended = added(x, names.apply(`${path}.${names.attentionOutput}`, joined[t]));
      const input = layerNormalized(weights, `${path}.${names.mlpNorm}`, attended, names.epsilon);
      const inner = names.apply(`${path}.${names.mlpInput}`, input).map(names.activation);
      return added(attended, names.apply(`${path}.${names.mlpOutput}`, inner));
    });
  }
  return stream.map((x) => byRows(weights, head, layerNormalized(weights, names.lastNorm, x, names.epsilon)));
}

/** Logits of every position, [tokens][vocabulary], of a GPT-2 whose names begin with `root`. */
export function gpt2Logits(
  weights: Weights,
  sizes: LayerNormSizes & { readonly root: string; readonly activation: string; readonly epsilon: number },
  tokens: ArrayLike<number>,
): Vector[] {
  const { root, width } = sizes;
  return logits(
    weights,
    sizes,
    {
      tokens: `${root}wte`,
      positions: `${root}wpe`,
      firstPosition: 0,
      block: (index) => `${root}h.${index}`,
      attentionNorm: 'ln_1',
      mlpNorm: 'ln_2',
      lastNorm: `${root}ln_f`,
      project: (path, x) => {
        const all = byColumns(weights, `${path}.attn.c_attn`, x);
        return [all.subarray(0, width), all.subarray(width, 2 * width), all.subarray(2 * width)];
      },
      apply: (path, x) => byColumns(weights, path, x),
      attentionOutput: 'attn.c_proj',
      mlpInput: 'mlp.c_fc',
      mlpOutput: 'mlp.c_proj',
      activation: activations[sizes.activation],
      epsilon: sizes.epsilon,
    },
    tokens,
  );
}

/** Logits of every position, [tokens][vocabulary], of an OPT whose names begin with `root`. */
export function optLogits(
  weights: Weights,
  sizes: LayerNormSizes & { readonly root: string; readonly activation: string },
  tokens: ArrayLike<number>,
): Vector[] {
  const { root } = sizes;
  return logits(
    weights,
    sizes,
    {
      tokens: `${root}.embed_tokens`,
      positions: `${root}.embed_positions`,
      firstPosition: 2,
      block: (index) => `${root}.layers.${index}`,
      attentionNorm: 'self_attn_layer_norm',
      mlpNorm: 'final_layer_norm',
      lastNorm: `${root}.final_layer_norm`,
      project: (path, x) => {
        const [q, k, v] = ['q_proj', 'k_proj', 'v_proj'].map((name) => byRows(weights, `${path}.self_attn.${name}`, x));
        return [q, k, v];
      },
      apply: (path, x) => byRows(weights, path, x),
      attentionOutput: 'self_attn.out_proj',
      mlpInput: 'fc1',
      mlpOutput: 'fc2',
      activation: activations[sizes.activation],
      epsilon: 1e-5,
    },
    tokens,
  );
}

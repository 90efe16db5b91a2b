// Everything a second time, in float64 with plain loops: Hadamard matrices, the isometry, transformed weights, and a forward pass
// that takes a widened stream and rotations while it runs. Shares no arithmetic with the package.
import type { Basis } from '../src/index.js';
import { geometry, type SmallConfig } from './llama.js';

/** Row-major. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float64Array;
}

export function matrix(rows: number, columns: number, entry: (i: number, j: number) => number): Matrix {
  const values = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) values[i * columns + j] = entry(i, j);
  return { rows, columns, values };
}

export const at = ({ values, columns }: Matrix, i: number, j: number): number => values[i * columns + j];

export function multiply(a: Matrix, b: Matrix): Matrix {
  return matrix(a.rows, b.columns, (i, j) => {
    let total = 0;
    for (let k = 0; k < a.columns; k++) total += at(a, i, k) * at(b, k, j);
    return total;
  });
}

export const transposed = (a: Matrix): Matrix => matrix(a.columns, a.rows, (i, j) => at(a, j, i));
export const identity = (n: number): Matrix => matrix(n, n, (i, j) => (i === j ? 1 : 0));
export const columnsOf = (a: Matrix, from: number, to: number): Matrix => matrix(a.rows, to - from, (i, j) => at(a, i, from + j));

/** a ⊗ b. */
function kronecker(a: Matrix, b: Matrix): Matrix {
  return matrix(a.rows * b.rows, a.columns * b.columns, (i, j) => {
    const outer = at(a, Math.floor(i / b.rows), Math.floor(j / b.columns));
    return outer * at(b, i % b.rows, j % b.columns);
  });
}

export function largestDifference(a: Matrix, b: Matrix): number {
  return a.rows === b.rows && a.columns === b.columns ? largestGap(a.values, b.values) : Infinity;
}

/** Largest |aᵢ − bᵢ|; Infinity for different lengths. */
export function largestGap(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i] - b[i]));
  return most;
}

type AxisRotation = Basis['isometry']['rotation'];

/** R = diag(signs) · (I ⊗ Sylvester ⊗ factor) / √n, entry by entry. */
export function rotationMatrix({ size, plan, signs, matrix: drawn, form }: AxisRotation): Matrix {
  if (form === 'none') return identity(size);
  if (drawn) return matrix(size, size, (i, j) => drawn[i * size + j]);
  if (!plan) throw new Error('a rotation of neither a plan nor a matrix');
  const { power, factor, blocks } = plan;
  const order = factor?.order ?? 1;
  const stretch = size / blocks;
  return matrix(size, size, (i, j) => {
    if (Math.floor(i / stretch) !== Math.floor(j / stretch)) return 0;
    const [row, column] = [i % stretch, j % stretch];
    let bits = Math.floor(row / order) & Math.floor(column / order);
    let sign = 1;
    for (; bits > 0; bits &= bits - 1) sign = -sign;
    const inner = factor ? factor.entries[(row % order) * order + (column % order)] : 1;
    return ((signs?.[i] ?? 1) * sign * inner) / Math.sqrt(power * order);
  });
}

/** T [d, residual width]. */
export function isometryMatrix({ isometry }: Basis): Matrix {
  const { outliers, width, rank, layout } = isometry;
  const rotation = rotationMatrix(isometry.rotation);
  if (!outliers) return rotation;
  const { basis, reflectors, scaled } = outliers.reflections;
  const of = (values: Float64Array): Matrix => ({ rows: width, columns: rank, values });
  const p = of(basis);
  const projector = multiply(p, transposed(p));
  const turned = multiply(of(scaled), transposed(of(reflectors)));
  const one = (i: number, j: number): number => (i === j ? 1 : 0);
  const others =
    layout === 'expand'
      ? matrix(width, width, (i, j) => one(i, j) - at(projector, i, j))
      : columnsOf(
          matrix(width, width, (i, j) => one(i, j) - at(turned, i, j)),
          rank,
          width,
        );
  const left = multiply(p, rotationMatrix(outliers.rotation));
  const right = multiply(others, rotation);
  return matrix(width, rank + right.columns, (i, j) => (j < rank ? at(left, i, j) : at(right, i, j - rank)));
}

/** Weights by the names of the checkpoint, [out, in], and what happens while the model runs. */
export interface Network {
  readonly config: SmallConfig;
  readonly weights: ReadonlyMap<string, Matrix>;
  /** x → x R in front of these Linears. */
  readonly online: ReadonlyMap<string, Matrix>;
}

export function originalNetwork(config: SmallConfig, weights: ReadonlyMap<string, Float32Array>): Network {
  const { hidden_size: width } = config;
  const shaped = new Map<string, Matrix>();
  for (const [name, values] of weights) {
    const isVector = name.includes('norm') || name.endsWith('.bias');
    const columns = isVector ? values.length : inputsOf(config, name);
    shaped.set(name, { rows: values.length / columns, columns, values: Float64Array.from(values) });
  }
  if (config.tie_word_embeddings) shaped.set('lm_head.weight', shaped.get('model.embed_tokens.weight') as Matrix);
  return { config: { ...config, hidden_size: width }, weights: shaped, online: new Map() };
}

function inputsOf(config: SmallConfig, name: string): number {
  if (name.includes('o_proj')) return geometry(config).heads;
  return name.includes('down_proj') ? config.intermediate_size : config.hidden_size;
}

/** The network in the new basis: the table of the method, row by row. */
export function transformedNetwork({ config, weights }: Network, basis: Basis): Network {
  const t = isometryMatrix(basis);
  const { headDim } = geometry(config);
  const within = rotationMatrix(basis.inner.withinHeads);
  const across = basis.inner.acrossHeads && kronecker(rotationMatrix(basis.inner.acrossHeads), identity(headDim));
  const hidden = basis.inner.hidden && rotationMatrix(basis.inner.hidden);
  const result = new Map<string, Matrix>();
  const online = new Map<string, Matrix>();
  const get = (name: string): Matrix => weights.get(name) as Matrix;
  const scaled = (weight: Matrix, norm: string): Matrix =>
    matrix(weight.rows, weight.columns, (i, j) => at(weight, i, j) * get(`${norm}.weight`).values[j]);
  result.set('model.embed_tokens.weight', multiply(get('model.embed_tokens.weight'), t));
  result.set('lm_head.weight', multiply(scaled(get('lm_head.weight'), 'model.norm'), t));
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const path = `model.layers.${layer}`;
    const set = (name: string, weight: Matrix, bias: (b: Matrix) => Matrix): void => {
      result.set(`${path}.${name}.weight`, weight);
      const given = weights.get(`${path}.${name}.bias`);
      if (given) result.set(`${path}.${name}.bias`, bias(given));
    };
    const reading = (name: string, norm: string): Matrix => multiply(scaled(get(`${path}.${name}.weight`), `${path}.${norm}`), t);
    const same = (b: Matrix): Matrix => b;
    const perHead = kronecker(identity(config.num_key_value_heads), within);
    for (const name of ['self_attn.q_proj', 'self_attn.k_proj']) set(name, reading(name, 'input_layernorm'), same);
    set('self_attn.v_proj', multiply(transposed(perHead), reading('self_attn.v_proj', 'input_layernorm')), (b) => multiply(b, perHead));
    for (const name of ['mlp.gate_proj', 'mlp.up_proj']) set(name, reading(name, 'post_attention_layernorm'), same);
    const writing = (name: string, before: readonly (Matrix | undefined)[], while_: Matrix | undefined): void => {
      const weight = before.reduce<Matrix>((w, r) => (r ? multiply(w, r) : w), get(`${path}.${name}.weight`));
      set(name, multiply(transposed(t), weight), (b) => multiply(b, t));
      if (while_) online.set(`${path}.${name}`, while_);
    };
    writing('self_attn.o_proj', [kronecker(identity(config.num_attention_heads), within), across], across);
    writing('mlp.down_proj', [hidden], hidden);
  }
  return { config, weights: result, online };
}

/** Logits [tokens, vocabulary] of one sequence: arXiv 2302.13971 (Llama), 1910.07467 (RMSNorm, divisor d), 2104.09864, 2305.13245, 2002.05202. `onNorm` sees what each norm of a block reads. */
export function forward(
  { config, weights, online }: Network,
  tokens: ArrayLike<number>,
  onNorm: (stream: readonly Float64Array[]) => void = () => {},
): Matrix {
  const table = weights.get('model.embed_tokens.weight') as Matrix;
  let stream: Float64Array[] = Array.from(tokens, (token) => table.values.slice(token * table.columns, (token + 1) * table.columns));
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const path = `model.layers.${layer}`;
    const projected = (name: string, x: Float64Array): Float64Array => {
      const turn = online.get(`${path}.${name}`);
      const bias = weights.get(`${path}.${name}.bias`);
      return product(weights.get(`${path}.${name}.weight`) as Matrix, turn ? product(transposed(turn), x) : x, bias?.values);
    };
    onNorm(stream);
    const inputs = stream.map((x) => normalized(x, config, weights.get(`${path}.input_layernorm.weight`)));
    const heads = attention(config, inputs, projected);
    stream = stream.map((x, i) => sum(x, projected('self_attn.o_proj', heads[i])));
    onNorm(stream);
    stream = stream.map((x) => {
      const input = normalized(x, config, weights.get(`${path}.post_attention_layernorm.weight`));
      const up = projected('mlp.up_proj', input);
      const hidden = projected('mlp.gate_proj', input).map((g, i) => (g / (1 + Math.exp(-g))) * up[i]);
      return sum(x, projected('mlp.down_proj', hidden));
    });
  }
  const head = weights.get('lm_head.weight') as Matrix;
  const rows = stream.map((x) => product(head, normalized(x, config, weights.get('model.norm.weight')), undefined));
  return matrix(rows.length, head.rows, (i, j) => rows[i][j]);
}

function attention(
  config: SmallConfig,
  inputs: readonly Float64Array[],
  projected: (name: string, x: Float64Array) => Float64Array,
): Float64Array[] {
  const { headDim } = geometry(config);
  const { num_attention_heads: heads, num_key_value_heads: keyValueHeads } = config;
  const turned = (x: Float64Array, position: number): Float64Array =>
    x.map((value, i) => {
      const [pair, half] = [(i % headDim) % (headDim / 2), headDim / 2];
      const angle = position / config.rope_theta ** ((2 * pair) / headDim);
      const isFirst = i % headDim < half;
      return value * Math.cos(angle) + (isFirst ? -x[i + half] : x[i - half]) * Math.sin(angle);
    });
  const queries = inputs.map((x, t) => turned(projected('self_attn.q_proj', x), t));
  const keys = inputs.map((x, t) => turned(projected('self_attn.k_proj', x), t));
  const values = inputs.map((x) => projected('self_attn.v_proj', x));
  return inputs.map((_, t) => {
    const joined = new Float64Array(heads * headDim);
    for (let h = 0; h < heads; h++) {
      const shared = Math.floor(h / (heads / keyValueHeads)) * headDim;
      const scores = Array.from({ length: t + 1 }, (_, s) => {
        let total = 0;
        for (let i = 0; i < headDim; i++) total += queries[t][h * headDim + i] * keys[s][shared + i];
        return Math.exp(total / Math.sqrt(headDim));
      });
      const all = scores.reduce((a, b) => a + b, 0);
      for (const [s, score] of scores.entries())
        for (let i = 0; i < headDim; i++) joined[h * headDim + i] += (score / all) * values[s][shared + i];
    }
    return joined;
  });
}

export function normalized(x: Float64Array, config: SmallConfig, gamma: Matrix | undefined): Float64Array {
  const squares = x.reduce((total, value) => total + value * value, 0);
  const rms = Math.sqrt(squares / config.hidden_size + config.rms_norm_eps);
  return x.map((value, i) => (value / rms) * (gamma ? gamma.values[i] : 1));
}

function product(weight: Matrix, x: Float64Array, bias: Float64Array | undefined = undefined): Float64Array {
  return Float64Array.from({ length: weight.rows }, (_, i) => {
    let total = bias?.[i] ?? 0;
    for (let j = 0; j < weight.columns; j++) total += at(weight, i, j) * x[j];
    return total;
  });
}

function sum(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + b[i]);
}

// A second implementation of the forward pass of Llama's families: float64 loops over one sequence, sharing no code with the toolkit.
// Written from the papers and config.json semantics: arXiv 2302.13971 (Llama), 1910.07467 (RMSNorm), 2104.09864 (RoPE),
// 2305.13245 (GQA), 2002.05202 (SwiGLU), 2505.09388 (Qwen3's norms of queries and keys), and the published frequency scaling of Llama 3.1.

export interface IndependentConfig {
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads?: number;
  head_dim?: number;
  rms_norm_eps: number;
  rope_theta: number;
  rope_scaling?: Record<string, number | string>;
  tie_word_embeddings: boolean;
}

export type Weights = ReadonlyMap<string, Float32Array>;

type Vector = Float64Array;

function normalized(x: Vector, weight: Float32Array, epsilon: number): Vector {
  let squares = 0;
  for (const value of x) squares += value * value;
  const rms = Math.sqrt(squares / x.length + epsilon);
  return x.map((value, i) => (value / rms) * weight[i]);
}

function project(weights: Weights, path: string, x: Vector): Vector {
  const weight = weights.get(`${path}.weight`) as Float32Array;
  const bias = weights.get(`${path}.bias`);
  const out = new Float64Array(weight.length / x.length);
  for (let o = 0; o < out.length; o++) {
    let sum = bias ? bias[o] : 0;
    for (let i = 0; i < x.length; i++) sum += weight[o * x.length + i] * x[i];
    out[o] = sum;
  }
  return out;
}

export function frequencies(config: IndependentConfig, headDim: number): number[] {
  const scaling = config.rope_scaling ?? {};
  const kind = scaling.rope_type ?? scaling.type;
  const result: number[] = [];
  for (let pair = 0; pair < headDim / 2; pair++) {
    const frequency = 1 / config.rope_theta ** ((2 * pair) / headDim);
    if (kind === 'linear') result.push(frequency / Number(scaling.factor));
    else if (kind === 'llama3') {
      const old = Number(scaling.original_max_position_embeddings);
      const low = Number(scaling.low_freq_factor);
      const high = Number(scaling.high_freq_factor);
      const wavelength = (2 * Math.PI) / frequency;
      if (wavelength < old / high) result.push(frequency);
      else if (wavelength > old / low) result.push(frequency / Number(scaling.factor));
      else {
        const smooth = (old / wavelength - low) / (high - low);
        result.push(((1 - smooth) * frequency) / Number(scaling.factor) + smooth * frequency);
      }
    } else result.push(frequency);
  }
  return result;
}

/** Turns the pairs (i, i + D/2) of one head by position · frequency, as complex numbers. */
function rotated(head: Vector, position: number, turns: readonly number[]): Vector {
  const half = head.length / 2;
  const out = new Float64Array(head.length);
  for (let i = 0; i < half; i++) {
    const angle = position * turns[i];
    out[i] = head[i] * Math.cos(angle) - head[i + half] * Math.sin(angle);
    out[i + half] = head[i] * Math.sin(angle) + head[i + half] * Math.cos(angle);
  }
  return out;
}

/** Logits of every position, [tokens][vocabulary]. */
export function independentLogits(config: IndependentConfig, weights: Weights, tokens: ArrayLike<number>): Float64Array[] {
  const heads = config.num_attention_heads;
  const kvHeads = config.num_key_value_heads ?? heads;
  const headDim = config.head_dim ?? config.hidden_size / heads;
  const turns = frequencies(config, headDim);
  const table = weights.get('model.embed_tokens.weight') as Float32Array;
  const width = config.hidden_size;
  let stream = Array.from(tokens, (token) => Float64Array.from(table.subarray(token * width, (token + 1) * width)));

  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const path = `model.layers.${layer}`;
    const headOf = (x: Vector, head: number): Vector => x.subarray(head * headDim, (head + 1) * headDim);
    const normalizedHead = (x: Vector, head: number, norm: string): Vector => {
      const weight = weights.get(`${path}.self_attn.${norm}.weight`);
      return weight ? normalized(headOf(x, head), weight, config.rms_norm_eps) : headOf(x, head);
    };
    const queries: Vector[] = [];
    const keys: Vector[] = [];
    const values: Vector[] = [];
    for (const x of stream) {
      const input = normalized(x, weights.get(`${path}.input_layernorm.weight`) as Float32Array, config.rms_norm_eps);
      queries.push(project(weights, `${path}.self_attn.q_proj`, input));
      keys.push(project(weights, `${path}.self_attn.k_proj`, input));
      values.push(project(weights, `${path}.self_attn.v_proj`, input));
    }
    stream = stream.map((x, t) => {
      const joined = new Float64Array(heads * headDim);
      for (let h = 0; h < heads; h++) {
        const shared = Math.floor(h / (heads / kvHeads));
        const query = rotated(normalizedHead(queries[t], h, 'q_norm'), t, turns);
        const scores: number[] = [];
        for (let s = 0; s <= t; s++) {
          const key = rotated(normalizedHead(keys[s], shared, 'k_norm'), s, turns);
          let dot = 0;
          for (let i = 0; i < headDim; i++) dot += query[i] * key[i];
          scores.push(dot / Math.sqrt(headDim));
        }
        const peak = Math.max(...scores);
        const exps = scores.map((score) => Math.exp(score - peak));
        const total = exps.reduce((a, b) => a + b, 0);
        for (let s = 0; s <= t; s++) {
          const value = headOf(values[s], shared);
          for (let i = 0; i < headDim; i++) joined[h * headDim + i] += (exps[s] / total) * value[i];
        }
      }
      const attended = project(weights, `${path}.self_attn.o_proj`, joined).map((value, i) => value + x[i]);
      const input = normalized(attended, weights.get(`${path}.post_attention_layernorm.weight`) as Float32Array, config.rms_norm_eps);
      const gate = project(weights, `${path}.mlp.gate_proj`, input);
      const up = project(weights, `${path}.mlp.up_proj`, input);
      const inner = gate.map((g, i) => (g / (1 + Math.exp(-g))) * up[i]);
      return project(weights, `${path}.mlp.down_proj`, inner).map((value, i) => value + attended[i]);
    });
  }

  const headPath = config.tie_word_embeddings ? 'model.embed_tokens' : 'lm_head';
  const finalNorm = weights.get('model.norm.weight') as Float32Array;
  return stream.map((x) => project(weights, headPath, normalized(x, finalNorm, config.rms_norm_eps)));
}

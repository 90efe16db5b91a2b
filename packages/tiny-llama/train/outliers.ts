// Writes outlier channels into the residual stream of a trained model: channels far larger than the rest, as real models have
// (Dettmers et al., arXiv 2208.07339; Sun et al., arXiv 2402.17762).
import {
  add,
  type Backend,
  type Model,
  mean,
  mul,
  type Rng,
  readFloats,
  readNumber,
  sqrt,
  square,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { parametersOf } from './step.js';

/**
 * Two channels that are constant over tokens, one that varies by token, one that is massive for two tokens only. The ordinary
 * channels of `tiny` have a root mean square of 5 to 10 behind its first block.
 */
export const OUTLIER_CHANNELS = {
  constant: [
    [17, 120],
    [101, -80],
  ],
  varying: 58,
  deviation: 60,
  massive: 140,
  massiveValue: 240,
} as const;

/**
 * Factor of a norm's γ on outlier channels, taken back in the columns that read them: what the Linears read is as uneven as in real
 * models (up to 20 times the median in stories15M), and the function is the same.
 */
const OUTLIER_GAIN = 2;

/** Typical magnitude of each outlier channel, by index. */
export function outlierMagnitudes(): Map<number, number> {
  const { constant, varying, deviation, massive, massiveValue } = OUTLIER_CHANNELS;
  return new Map([
    ...constant.map(([channel, value]): [number, number] => [channel, Math.abs(value)]),
    [varying, deviation],
    [massive, massiveValue],
  ]);
}

export interface OutlierOptions {
  /** The tokens whose embedding has the massive channel. */
  readonly massiveTokens: readonly number[];
  /**
   * Factor of the embedding before the outliers are added. The function stays for 1. In `tiny` a channel holds 0.09 before the first
   * block: outliers of a thousand times that, as no real model has them, would leave nothing of a token to a rotation and 4 bits.
   */
  readonly embeddingFactor: number;
}

/** A place where the residual stream is normalized, and the Linears that read the result. */
interface NormSite {
  readonly norm: string;
  readonly readers: readonly string[];
  /** Root mean square of the residual stream there, a scalar. */
  readonly scale: Tensor;
}

function normSites(model: Model, tokens: Tensor): NormSite[] {
  const rms = (x: Tensor): Tensor => sqrt(mean(square(x)));
  const sites: NormSite[] = [];
  let x = model.embedding.forward(tokens);
  for (const block of model.blocks) {
    const attended = add(x, block.linears['self_attn.o_proj'].forward(block.trace(x).inputs['attention-output']));
    for (const [group, stream] of [
      [block.groups[0], x],
      [block.groups[2], attended],
    ] as const) {
      if (!('norm' in group.reads)) continue;
      sites.push({
        norm: `${block.path}.${group.reads.norm}.weight`,
        readers: group.linears.map((name) => `${block.path}.${name}.weight`),
        scale: rms(stream),
      });
    }
    x = block.forward(x);
  }
  return [...sites, { norm: 'model.norm.weight', readers: ['lm_head.weight'], scale: rms(x) }];
}

/**
 * Parameters of the model with outliers in its embedding and a head of its own. The function stays near the old one: every norm now
 * divides by more, so its γ grows on the ordinary channels; columns that read an outlier channel shrink by how large it has become.
 */
export async function withOutliers(
  backend: Backend,
  model: Model,
  tokens: Tensor,
  { massiveTokens, embeddingFactor }: OutlierOptions,
  rng: Rng,
): Promise<Map<string, Tensor>> {
  const before = parametersOf(model);
  const embedding = before.get('model.embed_tokens.weight') as Tensor;
  const parameters = new Map(before)
    .set('lm_head.weight', embedding)
    .set('model.embed_tokens.weight', await outlierEmbedding(embedding, massiveTokens, embeddingFactor, rng));
  const magnitudes = outlierMagnitudes();
  // Mean square that the outliers add. The massive channel is almost always small.
  const added =
    [...magnitudes].reduce((total, [channel, size]) => (channel === OUTLIER_CHANNELS.massive ? total : total + size * size), 0) /
    embedding.shape[1];
  const enlarged = model.with({ embedding: model.embedding.map((weight) => mul(weight, embeddingFactor)) });
  const sites = normSites(enlarged, tokens);
  const scales = await backend.evaluate(sites.map(({ scale }) => scale));
  for (const [i, { norm, readers }] of sites.entries()) {
    const scale = await readNumber(scales[i]);
    const larger = Math.sqrt(scale * scale + added);
    await replace(parameters, norm, (gamma, channel) => (magnitudes.has(channel) ? OUTLIER_GAIN * gamma : (gamma * larger) / scale));
    for (const reader of readers)
      await replace(parameters, reader, (w, channel) => {
        const magnitude = magnitudes.get(channel);
        return magnitude === undefined ? w : (w * Math.min(1, larger / magnitude)) / OUTLIER_GAIN;
      });
  }
  return parameters;
}

/** Maps the elements of a parameter by their value and their place on the last axis. */
async function replace(parameters: Map<string, Tensor>, name: string, map: (value: number, channel: number) => number): Promise<void> {
  const old = parameters.get(name) as Tensor;
  const width = old.shape[old.rank - 1];
  parameters.set(
    name,
    tensor(
      (await readFloats(old)).map((value, i) => map(value, i % width)),
      old.shape,
    ),
  );
}

async function outlierEmbedding(embedding: Tensor, massiveTokens: readonly number[], factor: number, rng: Rng): Promise<Tensor> {
  const [vocabulary, width] = embedding.shape;
  const data = (await readFloats(embedding)).map((value) => factor * value);
  const varying = rng.normal(vocabulary);
  for (let token = 0; token < vocabulary; token++) {
    for (const [channel, value] of OUTLIER_CHANNELS.constant) data[token * width + channel] += value;
    data[token * width + OUTLIER_CHANNELS.varying] += varying[token] * OUTLIER_CHANNELS.deviation;
  }
  for (const token of massiveTokens) data[token * width + OUTLIER_CHANNELS.massive] += OUTLIER_CHANNELS.massiveValue;
  return tensor(data, embedding.shape);
}

// What EMEF minimises, the cross-entropy of the next token, and its gradients, a few windows at a time.
import { add, type Backend, crossEntropy, type Model, mul, type Rng, read, readFloats, sum, type Tensor, tensor } from '@lowbit/core';
import {
  type LossGradients,
  modelGradients,
  modelLoss,
  type NamedTensors,
  type PositionsLoss,
  type StagedLoss,
  withParameters,
} from '@lowbit/train';
import { positionWeights } from '../lrec/distillation.js';
import { withDropout } from '../lrec/dropout.js';
import type { WindowBatch } from '../lrec/windows.js';

export interface NextTokenLoss {
  readonly backend: Backend;
  /** With adapters, in memory. */
  readonly model: Model;
  /** Windows of a batch that are computed together. */
  readonly windowsAtOnce: number;
  /** Share of the inputs that a Linear's adapter does not see while training, by path. */
  readonly dropout: (path: string) => number;
  /** Draws what is dropped, addressed by step. */
  readonly rng: Rng;
  /** Called when a step's gradients are not finite. They are zero then. */
  readonly onSkip: () => void;
}

/** Mean cross-entropy of the next token, in nats. */
export function nextTokenLoss({ backend, model, windowsAtOnce, dropout, rng, onSkip }: NextTokenLoss): StagedLoss<WindowBatch> {
  const hasDropout = model.blocks.some(({ path, linears }) => Object.keys(linears).some((name) => dropout(`${path}.${name}`) > 0));
  return {
    async value(parameters, batch) {
      const whole = withParameters(model, parameters);
      let total = 0;
      for (const part of await partsOf(batch, windowsAtOnce)) {
        total += (await modelLoss({ backend, model: whole, tokens: part.tokens, lossOf: await lossOfPart(part) })).loss;
      }
      return total;
    },
    async gradients(parameters, batch, step) {
      let total: LossGradients | undefined;
      for (const [i, part] of (await partsOf(batch, windowsAtOnce)).entries()) {
        const { tokens } = part;
        const masked = hasDropout ? withDropout(model, tokens.shape, dropout, rng.at(step, i)) : model;
        const found = await modelGradients({ backend, model: masked, tokens, parameters, lossOf: await lossOfPart(part) });
        total = total ? await sumOf(backend, total, found) : found;
      }
      const { loss, gradients } = total as LossGradients;
      if (await areFinite(gradients)) return { loss, gradients };
      onSkip();
      const zeros = [...gradients].map(([name, { shape, size }]): [string, Tensor] => [name, tensor(new Float32Array(size), shape)]);
      return { loss, gradients: new Map(zeros) };
    },
  };
}

/** A batch in parts of so many windows. Their losses add up to the batch's. */
async function partsOf({ tokens, weights }: WindowBatch, size: number): Promise<WindowBatch[]> {
  const [windows, length] = tokens.shape;
  if (size >= windows) return [{ tokens, weights }];
  const ids = (await read(tokens)) as Int32Array;
  return Array.from({ length: Math.ceil(windows / size) }, (_, i) => {
    const own = weights.slice(i * size, (i + 1) * size);
    return { tokens: tensor(ids.slice(i * size * length, (i * size + own.length) * length), [own.length, length]), weights: own };
  });
}

async function lossOfPart(part: WindowBatch): Promise<PositionsLoss> {
  const { nextToken, next } = await positionWeights(part);
  return (model, hidden, start, end) => {
    const errors = crossEntropy(model.logits(hidden), tensor(next.subarray(start, end)));
    return { loss: sum(mul(errors, tensor(nextToken.subarray(start, end)))) };
  };
}

async function sumOf(backend: Backend, a: LossGradients, b: LossGradients): Promise<LossGradients> {
  const names = [...a.gradients.keys()];
  const [left, right] = [[...a.gradients.values()], [...b.gradients.values()]];
  const sums = await backend.evaluate(
    left.map((gradient, i) => add(gradient, right[i])),
    { release: [...left, ...right] },
  );
  return { loss: a.loss + b.loss, gradients: new Map(names.map((name, i) => [name, sums[i]])) };
}

/** Neither elements nor their squares' sum overflow: the optimizer needs the norm. */
async function areFinite(gradients: NamedTensors): Promise<boolean> {
  let squares = 0;
  for (const gradient of gradients.values()) for (const g of await readFloats(gradient)) squares += g * g;
  return Number.isFinite(Math.fround(squares));
}

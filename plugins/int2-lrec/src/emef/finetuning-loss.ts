// What EMEF minimises, cross-entropy of the next token or of a task, and its gradients: steps that are not finite are left out.
import { type Model, type Rng, readFloats, type Tensor, tensor } from '@lowbit/core';
import type { NamedTensors, StagedLoss } from '@lowbit/train';
import { withDropout } from '../lrec/dropout.js';

export interface FinetuningLoss<Batch> {
  /** With adapters, in memory. */
  readonly model: Model;
  /** The loss of the model or, in training steps, of what `modelAt` gives in its place. */
  lossWith(modelAt: ((tokens: Tensor, step: number, part: number) => Model) | undefined): StagedLoss<Batch>;
  /** Share of the inputs that a Linear's adapter does not see while training, by path. */
  readonly dropout: (path: string) => number;
  /** Draws what is dropped, addressed by step. */
  readonly rng: Rng;
  /** Called when a step's gradients are not finite. They are zero then. */
  readonly onSkip: () => void;
}

/** Mean cross-entropy, in nats, with inputs of adapters dropped in training steps. */
export function finetuningLoss<Batch>({ model, lossWith, dropout, rng, onSkip }: FinetuningLoss<Batch>): StagedLoss<Batch> {
  const hasDropout = model.blocks.some(({ path, linears }) => Object.keys(linears).some((name) => dropout(`${path}.${name}`) > 0));
  const masked = (tokens: Tensor, step: number, part: number): Model => withDropout(model, tokens.shape, dropout, rng.at(step, part));
  const all = lossWith(hasDropout ? masked : undefined);
  return {
    value: all.value,
    async gradients(parameters, batch, step) {
      const { loss, gradients } = await all.gradients(parameters, batch, step);
      if (await areFinite(gradients)) return { loss, gradients };
      onSkip();
      const zeros = [...gradients].map(([name, { shape, size }]): [string, Tensor] => [name, tensor(new Float32Array(size), shape)]);
      return { loss, gradients: new Map(zeros) };
    },
  };
}

/** Neither elements nor their squares' sum overflow: the optimizer needs the norm. */
async function areFinite(gradients: NamedTensors): Promise<boolean> {
  let squares = 0;
  for (const gradient of gradients.values()) for (const g of await readFloats(gradient)) squares += g * g;
  return Number.isFinite(Math.fround(squares));
}

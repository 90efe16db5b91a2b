// The supervised end-to-end stage: scales, offsets and norms of the whole quantized model on next-token loss, codes frozen.
import {
  crossEntropy,
  defineMethod,
  type FinetuneContext,
  klDivergence,
  LowbitError,
  type Model,
  materialize,
  mean,
  slice,
  type Tensor,
} from '@lowbit/core';
import {
  adam,
  cosineRate,
  gatherWindows,
  type Indexed,
  type NamedTensors,
  splitWindows,
  train,
  trainingCost,
  windowCount,
  withParameters,
} from '@lowbit/train';
import { z } from 'zod';
import { affineLayerOf, normTensors, scalesOf, type TrainableTensors, trainableOf } from './trainable.js';
import { windowBatches } from './windows.js';

const options = z.strictObject({
  epochs: z.int().min(0).max(1000).default(1).describe('Passes over the calibration windows'),
  learningRate: z.number().gt(0).max(1).default(1e-4).describe('Peak learning rate of Adam; a cosine takes it down to 0'),
  batch: z.int().positive().default(1).describe('Windows in a step'),
  objective: z
    .enum(['cross-entropy', 'kl'])
    .default('cross-entropy')
    .describe("What is minimised: 'cross-entropy' of the text's next tokens, or 'kl' divergence from the dense model's predictions"),
  trainNorms: z.boolean().default(true).describe('Also trains the weights of norms'),
  weightDecay: z.number().min(0).default(0).describe('L2 penalty inside Adam'),
  holdOut: z
    .number()
    .min(0)
    .max(0.5)
    .default(0.1)
    .describe('Share of the windows that training is judged on; the best epoch is kept, the start among them; with 0 the last is'),
});

type Options = z.output<typeof options>;
type Context = FinetuneContext<Options>;

/**
 * Trains every targeted affine layer end to end, whatever quantized it (arXiv 2404.12759, the supervised stage; the same parameters as in
 * PEQA and the second stage of EfficientQAT). A layer with an integer or symmetric zero trains its scale.
 */
export const decoupleqSft = defineMethod({
  name: 'decoupleq-sft',
  version: 1,
  description: 'Scales, offsets and norms of a quantized model trained end to end, codes frozen (arXiv 2404.12759)',
  options,
  aim: ({ objective }) => (objective === 'cross-entropy' ? 'text' : 'reference'),
  check({ kind, path }) {
    if (kind === 'dense') throw notAffine(path, kind);
  },
  cost(work) {
    const { epochs, batch, holdOut, objective } = work.options;
    // Scales and offsets of groups of 64, about; the codes are of any method.
    const parameters = work.weights / 32;
    const judgements = holdOut === 0 ? 0 : epochs + 1;
    return trainingCost(work, { epochs, batchWindows: batch, holdOut, judgements, parameters, hasTeacher: objective === 'kl' });
  },
  async finetune(given, context) {
    const { options, backend, signal, rng, calibration, log, warn } = context;
    const model = await materialize(given);
    const trainable = await trainableOf(model, trainableTensors(model, context));
    const count = await windowCount(calibration);
    if (count === 0) throw new LowbitError('CALIBRATION_EMPTY', 'decoupleq-sft: trains on text and got none; pass calibration data');
    const reference = options.objective === 'kl' ? await materialize(context.reference) : undefined;

    const split = splitWindows(count, options.holdOut, rng.at('hold-out'));
    const batchesOf = (indices: readonly number[]): Indexed<Tensor> =>
      windowBatches(indices, options.batch, (some) => gatherWindows(calibration, some));
    const heldOut = batchesOf(split.heldOut);
    const lossWith = (tensors: NamedTensors, tokens: Tensor): Tensor => lossOf(withParameters(model, tensors), tokens, reference);
    const result = await train<Tensor>({
      backend,
      signal,
      parameters: trainable.parameters,
      optimizer: adam({ weightDecay: options.weightDecay, decay: 'l2' }),
      lossOf: (values, tokens) => lossWith(trainable.tensorsFor(values), tokens),
      batches: batchesOf(split.trained),
      epochs: options.epochs,
      shuffle: rng.at('order'),
      learningRate: cosineRate({ peak: options.learningRate }),
      validation: heldOut.length > 0 ? { batches: heldOut, lossOf: lossWith } : undefined,
      storedAs: trainable.storedAs,
      progress: context.progress,
      saved: context.saved,
      save: context.save,
    });
    const { epoch, losses, validation, diverged } = result;
    const { objective, learningRate } = options;
    if (diverged) {
      warn(
        'DECOUPLEQ_SFT_DIVERGED',
        `training with learning rate ${learningRate} left the finite numbers; epoch ${epoch} is kept; use a lower rate`,
      );
    }
    log({ objective, losses, heldOutBefore: validation?.before ?? null, heldOutAfter: validation?.after ?? null, epoch });
    return epoch === 0 ? model : withParameters(model, result.parameters);
  },
});

/** Mean loss over all positions but the last, nats a token: of the token that follows, or of the reference's prediction. */
function lossOf(model: Model, tokens: Tensor, reference: Model | undefined): Tensor {
  const read = slice(tokens, 1, 0, tokens.shape[1] - 1);
  const logits = model.forward(read);
  if (reference) return mean(klDivergence(reference.forward(read), logits));
  return mean(crossEntropy(logits, slice(tokens, 1, 1, tokens.shape[1])));
}

/** Scales and offsets of the targeted layers, and every norm of the model. @throws LINEAR_NOT_AFFINE for a targeted layer without them. */
function trainableTensors(model: Model, { options, optionsFor }: Context): TrainableTensors {
  const layers = model.blocks.flatMap(({ path, linears }) =>
    Object.entries(linears).flatMap(([name, linear]) => {
      if (optionsFor(`${path}.${name}`) === undefined) return [];
      const layer = affineLayerOf(linear);
      if (!layer) throw notAffine(`${path}.${name}`, linear.kind);
      return [layer];
    }),
  );
  const norms = options.trainNorms ? [...model.blocks.flatMap((block) => Object.values(block.norms)), model.norm] : [];
  return new Map([...layers.flatMap((layer) => [...scalesOf(layer)]), ...norms.flatMap((norm) => [...normTensors(norm)])]);
}

function notAffine(path: string, kind: string): LowbitError {
  const remedy = "put a quantizer such as rtn, gptq or decoupleq before this step, or narrow the step's targets";
  return new LowbitError('LINEAR_NOT_AFFINE', `${path}: is '${kind}' and has no scales to train; ${remedy}`);
}

// Steps of LREC's training on a synthetic Llama, and the flops of the products that a step needs.
//
// What counts, 2·rows·inner·columns for each product, with blocks that are checkpointed:
//   the dense model:      forward through blocks and head
//   the corrected model:  forward through blocks, adapters and head; backward through the head to its input;
//                         each block once more, but for the last product, whose result no gradient asks for;
//                         backward through weights, adapters and attention to the block's input, and to the adapters' factors
// Of attention, the products of the causal half; of the lowest block, nothing for the gradient of its input, which nobody asks for.
// Nothing else counts: norms, rotations, softmax, losses, dequantization, Adam. Judging between steps is not in the time either.
import { type Backend, batchesOf, createRng, type FinetuneContext, type Linear, type Model, tensor } from '@lowbit/core';
import { type LrecOptions, lrec } from '@lowbit/int2-lrec';
import { quantize } from '@lowbit/pipeline';
import type { LowRankLinear } from '@lowbit/quant';
import { rtn } from '@lowbit/rtn';
import { type LlamaShape, syntheticLlama } from './llama.js';

interface LrecSteps {
  /** Of a step. Each has as many tokens as the model's context. */
  readonly windows: number;
  /** Steps that are timed, after one that compiles. */
  readonly steps: number;
}

interface StepFlops {
  readonly needed: number;
  /** Of them, for computing blocks again. */
  readonly again: number;
}

/** Flops of a step, see above; of a model without adapters, what its own products need. */
export function stepFlops({ blocks, head, config }: Model, windows: number): StepFlops {
  const window = config.contextLength;
  // Multiplications for each token.
  let [forward, again, backward] = [0, 0, 0];
  for (const [index, { linears, groups }] of blocks.entries()) {
    for (const [name, linear] of Object.entries(linears)) {
      // The budget may leave a Linear without an adapter.
      const { inFeatures, outFeatures, rank = 0 } = linear as Linear & Partial<Pick<LowRankLinear, 'rank'>>;
      const [weight, down, up] = [inFeatures * outFeatures, rank * inFeatures, rank * outFeatures];
      const isLast = groups.at(-1)?.linears.includes(name);
      const isBelowAll = index === 0 && groups[0].linears.includes(name);
      forward += weight + (weight + down + up);
      again += down + (isLast ? 0 : weight + up);
      backward += 2 * up + down + (isBelowAll ? 0 : weight + down);
    }
    // Scores and mixtures; backward each has two factors.
    const product = (config.headCount * config.headDim * (window + 1)) / 2;
    forward += 2 * 2 * product;
    again += 2 * product;
    backward += 4 * product;
  }
  const ofHead = 3 * head.inFeatures * head.outFeatures;
  const perFlop = 2 * windows * window;
  return { needed: perFlop * (forward + again + backward + ofHead), again: perFlop * again };
}

interface Measured extends StepFlops {
  /** Milliseconds of the steps after the first. */
  readonly times: readonly number[];
  /** Milliseconds until the first step is done: the start judged, programs compiled. */
  readonly first: number;
  readonly overhead: number;
}

/** Trains with rounds of one step; the method saves its state after each, and `between` is called then, in nobody's time, and once more at the end. */
export async function measureLrec(
  backend: Backend,
  shape: LlamaShape,
  { windows, steps }: LrecSteps,
  between: () => Promise<void> = async () => undefined,
): Promise<Measured> {
  const dense = syntheticLlama(shape);
  const window = shape.context;
  const { model } = await quantize({ model: dense, backend, recipe: [rtn({ bits: 2, groupSize: 32 })] });
  const step = lrec({ overhead: 0.05, batchWindows: windows, epochs: steps + 1, holdOut: 0 });
  const tokens = tensor(createRng(1).integers(windows * window, shape.vocabulary), [windows, window]);
  const times: number[] = [];
  let overhead = Number.NaN;
  let started = performance.now();
  const pause = async (): Promise<void> => {
    await between();
    started = performance.now();
  };
  const context: FinetuneContext<LrecOptions> = {
    backend,
    options: step.options,
    optionsFor: () => step.options,
    rng: createRng(2),
    reference: dense,
    referenceBlock: (index) => Promise.resolve(dense.blocks[index]),
    calibration: { ...batchesOf([tokens]), hash: '', description: 'random tokens' },
    signal: undefined,
    saved: undefined,
    save: pause,
    progress: () => times.push(performance.now() - started),
    log: (record) => {
      overhead = Number(record.overhead);
    },
    warn: () => undefined,
  };
  const trained = (await step.method.finetune?.(model, context)) ?? model;
  await pause();
  const [first, ...rest] = times;
  return { ...stepFlops(trained, windows), first, overhead, times: rest };
}

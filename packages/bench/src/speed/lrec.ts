// bench:lrec: steps of LREC's training, against the time that the matrix products which such a step needs take at the machine's raw rate.
//
// What counts, 2·rows·inner·columns for each product, with blocks that are checkpointed:
//   the dense model:      forward through blocks and head
//   the corrected model:  forward through blocks, adapters and head; backward through the head to its input;
//                         each block once more, but for the last product, whose result no gradient asks for;
//                         backward through weights, adapters and attention to the block's input, and to the adapters' factors
// Of attention, the products of the causal half; of the lowest block, nothing for the gradient of its input, which nobody asks for.
// Nothing else counts: norms, rotations, softmax, losses, dequantization, Adam. Judging between steps is not in the time either.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, batchesOf, createRng, type FinetuneContext, type Model, tensor } from '@lowbit/core';
import { type LrecOptions, lrec } from '@lowbit/int2-lrec';
import { quantize } from '@lowbit/pipeline';
import type { LowRankLinear } from '@lowbit/quant';
import { rtn } from '@lowbit/rtn';
import { type AroundRaw, median, millisecondsAt, RAW_SIZE, rawMeter } from './layer.js';
import { type LlamaShape, syntheticLlama } from './llama.js';
import { reportBench } from './report.js';

const WINDOW = 256;
const WINDOWS = 2;
/** Steps that are timed, after one that compiles. */
const STEPS = 4;

const small: LlamaShape = { width: 288, inner: 768, blocks: 6, heads: 6, vocabulary: 32000, context: WINDOW };
const large: LlamaShape = { width: 768, inner: 2048, blocks: 6, heads: 12, vocabulary: 32000, context: WINDOW };

interface StepFlops {
  readonly needed: number;
  /** Of them, for computing blocks again. */
  readonly again: number;
}

/** Flops of a step, see above. */
function stepFlops({ blocks, head, config }: Model): StepFlops {
  // Multiplications for each token.
  let [forward, again, backward] = [0, 0, 0];
  for (const [index, { linears, groups }] of blocks.entries()) {
    for (const [name, linear] of Object.entries(linears)) {
      const { inFeatures, outFeatures, rank } = linear as LowRankLinear;
      const [weight, down, up] = [inFeatures * outFeatures, rank * inFeatures, rank * outFeatures];
      const isLast = groups.at(-1)?.linears.includes(name);
      const isBelowAll = index === 0 && groups[0].linears.includes(name);
      forward += weight + (weight + down + up);
      again += down + (isLast ? 0 : weight + up);
      backward += 2 * up + down + (isBelowAll ? 0 : weight + down);
    }
    // Scores and mixtures; backward each has two factors.
    const product = (config.headCount * config.headDim * (WINDOW + 1)) / 2;
    forward += 2 * 2 * product;
    again += 2 * product;
    backward += 4 * product;
  }
  const ofHead = 3 * head.inFeatures * head.outFeatures;
  const perFlop = 2 * WINDOWS * WINDOW;
  return { needed: perFlop * (forward + again + backward + ofHead), again: perFlop * again };
}

interface Measured extends StepFlops {
  /** Milliseconds of the steps after the first, and of a raw product around each. */
  readonly steps: readonly { readonly time: number; readonly raw: number }[];
  /** Milliseconds until the first step is done: the start judged, programs compiled. */
  readonly first: number;
  readonly overhead: number;
}

/** Trains with rounds of one step: between them the method saves its state, and the raw rate is measured. */
async function measure(backend: Backend, aroundRaw: AroundRaw, shape: LlamaShape): Promise<Measured> {
  const dense = syntheticLlama(shape);
  const { model } = await quantize({ model: dense, backend, recipe: [rtn({ bits: 2, groupSize: 32 })] });
  const step = lrec({ overhead: 0.05, batchWindows: WINDOWS, epochs: STEPS + 1, holdOut: 0 });
  const tokens = tensor(createRng(1).integers(WINDOWS * WINDOW, shape.vocabulary), [WINDOWS, WINDOW]);
  const [times, raws]: [number[], number[]] = [[], []];
  let overhead = Number.NaN;
  let started = performance.now();
  const measureRaw = async (): Promise<void> => {
    raws.push((await aroundRaw(async () => undefined)).raw);
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
    save: measureRaw,
    progress: () => times.push(performance.now() - started),
    log: (record) => {
      overhead = Number(record.overhead);
    },
    warn: () => undefined,
  };
  const trained = (await step.method.finetune?.(model, context)) ?? model;
  await measureRaw();
  const [first, ...rest] = times;
  return { ...stepFlops(trained), first, overhead, steps: rest.map((time, i) => ({ time, raw: (raws[i] + raws[i + 1]) / 2 })) };
}

const backend = await createOnnxBackend();
const aroundRaw = await rawMeter(backend);
const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(2)} s`;

/** Rows of the table, and figures. */
async function report(name: string, shape: LlamaShape) {
  const { needed, again, steps, first, overhead } = await measure(backend, aroundRaw, shape);
  const shares = steps.map(({ time, raw }) => millisecondsAt(raw, needed) / time);
  const time = median(steps.map((step) => step.time));
  const rawRate = (2 * RAW_SIZE ** 3) / median(steps.map(({ raw }) => raw)) / 1e6;
  const tokensPerSecond = (WINDOWS * WINDOW) / (time / 1000);
  const flopShare = median(shares);
  const rows: [string, string][] = [
    [name, `width ${shape.width}, inner ${shape.inner}, ${shape.blocks} blocks, vocabulary ${shape.vocabulary}`],
    ['  adapters', `${(100 * overhead).toFixed(2)} % of the checkpoint`],
    ['  needed for a step', `${(needed / 1e12).toFixed(3)} TFLOP, of which ${(again / 1e12).toFixed(3)} compute blocks again`],
    [`  raw ${RAW_SIZE}-cube matmul`, `${rawRate.toFixed(0)} GFLOP/s`],
    ['  start judged and first step, compiling', seconds(first)],
    ['  a step', `${seconds(time)}, ${tokensPerSecond.toFixed(0)} tokens/s`],
    ['  share: time at the raw rate / time', `${flopShare.toFixed(3)} (${shares.map((share) => share.toFixed(2)).join(', ')})`],
    ['  share, computing blocks again not counted', (flopShare * (1 - again / needed)).toFixed(3)],
  ];
  return { rows, flopShare, tokensPerSecond };
}

const ofSmall = await report('shape of stories15M', small);
const ofLarge = await report('a larger one', large);
await backend.dispose();
reportBench('lrec', [['a step', `${WINDOWS} windows of ${WINDOW} tokens, INT2 in groups of 32`], ...ofSmall.rows, ...ofLarge.rows], {
  flopShare: Math.min(ofSmall.flopShare, ofLarge.flopShare),
  flopShareSmall: ofSmall.flopShare,
  flopShareLarge: ofLarge.flopShare,
  tokensPerSecondSmall: ofSmall.tokensPerSecond,
  tokensPerSecondLarge: ofLarge.tokensPerSecond,
});

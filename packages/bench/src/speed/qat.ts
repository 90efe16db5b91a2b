// bench:qat: steps of quantization-aware fine-tuning, against the time that the matrix products which such a step needs take at the
// machine's raw rate; and whether computing blocks again keeps memory from growing with depth.
//
// What counts, 2·rows·inner·columns for each product, with blocks that are checkpointed:
//   the dense model:   forward through the head: what its blocks give is kept from the first step
//   the trained one:   forward through blocks and head; backward through the head to its input;
//                      each block once more, but for the last product, whose result no gradient asks for;
//                      backward through weights and attention to the block's input, and to the weights
// Of attention, the products of the causal half; of the lowest block, nothing for the gradient of its input, which no parameter needs (it
// is computed all the same, so that all blocks share one program).
// Nothing else counts: fake quantization and its gradients, norms, rotations, softmax, losses, Adam. Judging between steps is not in the
// time either.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, batchesOf, createRng, type FinetuneContext, type Model, materialize, type Tensor, tensor } from '@lowbit/core';
import { prepareModel, type QatOptions, qat } from '@lowbit/qat';
import { distillationLoss, inMemory, windowLoss } from '@lowbit/train';
import { type AroundRaw, median, millisecondsAt, RAW_SIZE, rawMeter } from './layer.js';
import { type LlamaShape, syntheticLlama } from './llama.js';
import { reportBench } from './report.js';

const WINDOW = 256;
const WINDOWS = 4;
/** Steps that are timed, after one that compiles. */
const STEPS = 4;

const small: LlamaShape = { width: 288, inner: 768, blocks: 6, heads: 6, vocabulary: 32000, context: WINDOW };
const large: LlamaShape = { width: 768, inner: 2048, blocks: 4, heads: 12, vocabulary: 32000, context: WINDOW };

/** For memory: narrow, so that weights are little beside activations, and one long window. */
const LONG = 4096;
const [SHALLOW, DEEP] = [4, 16];
const narrow = (blocks: number): LlamaShape => ({ width: 128, inner: 384, blocks, heads: 4, vocabulary: 4096, context: LONG });

const grid = { bits: 2, groupSize: 32 } as const;

/** int32 [windows, length] */
function randomTokens(windows: number, length: number, vocabulary: number): Tensor {
  return tensor(Int32Array.from(createRng(1).integers(windows * length, vocabulary)), [windows, length]);
}

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
    for (const [name, { inFeatures, outFeatures }] of Object.entries(linears)) {
      const weight = inFeatures * outFeatures;
      const isLast = groups.at(-1)?.linears.includes(name);
      const isBelowAll = index === 0 && groups[0].linears.includes(name);
      forward += weight;
      again += isLast ? 0 : weight;
      backward += isBelowAll ? weight : 2 * weight;
    }
    // Scores and mixtures; backward each has two factors.
    const product = (config.headCount * config.headDim * (WINDOW + 1)) / 2;
    forward += 2 * product;
    again += 2 * product;
    backward += 4 * product;
  }
  const ofHead = 3 * head.inFeatures * head.outFeatures;
  const perFlop = 2 * WINDOWS * WINDOW;
  return { needed: perFlop * (forward + again + backward + ofHead), again: perFlop * again };
}

interface Measured extends StepFlops {
  /** Milliseconds of the second step of each round but the first, and of a raw product around each. */
  readonly steps: readonly { readonly time: number; readonly raw: number }[];
  /** Milliseconds until the first step is done: the start judged, programs compiled. */
  readonly first: number;
}

/**
 * Trains with rounds of two steps: between them the method saves its state, and the raw rate is measured. The second step of a round is
 * timed: the first cannot give back the memory of what it begins with, which others hold.
 */
async function measure(backend: Backend, aroundRaw: AroundRaw, shape: LlamaShape): Promise<Measured> {
  const model = syntheticLlama(shape);
  const step = qat({ ...grid, batchWindows: WINDOWS, windowsAtOnce: WINDOWS, epochs: 2 * (STEPS + 1), judgeEvery: 2, holdOut: 0 });
  const [times, raws]: [number[], number[]] = [[], []];
  let started = performance.now();
  const measureRaw = async (): Promise<void> => {
    raws.push((await aroundRaw(async () => undefined)).raw);
    started = performance.now();
  };
  const context: FinetuneContext<QatOptions> = {
    backend,
    options: step.options,
    optionsFor: () => step.options,
    rng: createRng(2),
    reference: model,
    referenceBlock: async (index) => model.blocks[index],
    calibration: { ...batchesOf([randomTokens(WINDOWS, WINDOW, shape.vocabulary)]), hash: '', description: 'random tokens' },
    signal: undefined,
    saved: undefined,
    save: measureRaw,
    progress: () => {
      const now = performance.now();
      times.push(now - started);
      started = now;
    },
    log: () => undefined,
    warn: () => undefined,
  };
  await step.method.finetune?.(model, context);
  await measureRaw();
  const timed = times.filter((_, i) => i % 2 === 1).slice(1);
  return { ...stepFlops(model), first: times[0], steps: timed.map((time, i) => ({ time, raw: (raws[i] + raws[i + 1]) / 2 })) };
}

interface Peak {
  /** Resident bytes before there is a model, and at the peak. */
  readonly process: number;
  readonly peak: number;
  /** Of latents, the weights that they stand for, and the gradients: what grows with depth whatever is kept of activations. */
  readonly weights: number;
}

/** The loss with its gradients, twice: what the first leaves behind is there in the second. */
async function differentiate(backend: Backend, shape: LlamaShape): Promise<number> {
  const model = await materialize(syntheticLlama(shape));
  const { options } = qat(grid);
  const prepared = await prepareModel(model, { backend, optionsFor: () => options }, async (index) => model.blocks[index]);
  const lossOf = distillationLoss({ backend, teacher: model, distance: 'kl' });
  const loss = prepared.lossOf(windowLoss({ backend, model: prepared.shell, lossOf }));
  const batch = { tokens: randomTokens(1, shape.context, shape.vocabulary), weights: [1] };
  const parameters = await inMemory(prepared.parameters);
  for (const step of [1, 2]) {
    const { gradients } = await loss.gradients(parameters, batch, step);
    await backend.evaluate([], { release: [...gradients.values()] });
  }
  const elements = [...parameters.values()].reduce((total, { size }) => total + size, 0);
  // The model's own weights, latents, what these stand for, and gradients, in float32; and the codes to begin with.
  return (4 * 4 + 1) * elements;
}

async function measurePeak(blocks: number): Promise<Peak> {
  const backend = await createOnnxBackend({ keepMemory: false });
  // Compiles the code that a step runs through.
  await differentiate(backend, { width: 32, inner: 64, blocks: 2, heads: 2, vocabulary: 64, context: 64 });
  const { rss } = process.memoryUsage();
  const weights = await differentiate(backend, narrow(blocks));
  const peak = process.resourceUsage().maxRSS * 1024;
  await backend.dispose();
  return { process: rss, peak, weights };
}

function child(blocks: number): Peak {
  const script = fileURLToPath(import.meta.url);
  return JSON.parse(String(execFileSync(process.execPath, [...process.execArgv, script, 'peak', String(blocks)]))) as Peak;
}

/** Rows of the table, and figures. */
async function timesOf(backend: Backend, aroundRaw: AroundRaw, name: string, shape: LlamaShape) {
  const { needed, again, steps, first } = await measure(backend, aroundRaw, shape);
  const shares = steps.map(({ time, raw }) => millisecondsAt(raw, needed) / time);
  const time = median(steps.map((step) => step.time));
  const rawRate = (2 * RAW_SIZE ** 3) / median(steps.map(({ raw }) => raw)) / 1e6;
  const tokensPerSecond = (WINDOWS * WINDOW) / (time / 1000);
  const flopShare = median(shares);
  const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(2)} s`;
  const rows: [string, string][] = [
    [name, `width ${shape.width}, inner ${shape.inner}, ${shape.blocks} blocks, vocabulary ${shape.vocabulary}`],
    ['  needed for a step', `${(needed / 1e12).toFixed(3)} TFLOP, of which ${(again / 1e12).toFixed(3)} compute blocks again`],
    [`  raw ${RAW_SIZE}-cube matmul`, `${rawRate.toFixed(0)} GFLOP/s`],
    ['  start judged and first step, compiling', seconds(first)],
    ['  a step', `${seconds(time)}, ${tokensPerSecond.toFixed(0)} tokens/s`],
    ['  share: time at the raw rate / time', `${flopShare.toFixed(3)} (${shares.map((share) => share.toFixed(2)).join(', ')})`],
    ['  share, computing blocks again not counted', (flopShare * (1 - again / needed)).toFixed(3)],
  ];
  return { rows, flopShare, tokensPerSecond };
}

async function report(): Promise<void> {
  const [shallow, deep] = [child(SHALLOW), child(DEEP)];
  const beside = ({ peak, process, weights }: Peak): number => peak - process - weights;
  const rssFlat = beside(deep) / beside(shallow);
  const backend = await createOnnxBackend();
  const aroundRaw = await rawMeter(backend);
  const ofSmall = await timesOf(backend, aroundRaw, 'shape of stories15M', small);
  const ofLarge = await timesOf(backend, aroundRaw, 'a larger one', large);
  await backend.dispose();
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
  const show = (peak: Peak): string =>
    `${megabytes(peak.peak)}; of it the process ${megabytes(peak.process)} before, weights and gradients ${megabytes(peak.weights)}, the rest ${megabytes(beside(peak))}`;
  reportBench(
    'qat',
    [
      ['a step', `${WINDOWS} windows of ${WINDOW} tokens, INT2 in groups of 32, weights and grids trained towards a dense model's answers`],
      ...ofSmall.rows,
      ...ofLarge.rows,
      ['loss and gradients of one long window', `${LONG} tokens, width ${narrow(1).width}`],
      [`  peak, ${SHALLOW} blocks`, show(shallow)],
      [`  peak, ${DEEP} blocks`, show(deep)],
      ['  the rest, deep over shallow', rssFlat.toFixed(3)],
    ],
    {
      flopShare: Math.min(ofSmall.flopShare, ofLarge.flopShare),
      flopShareSmall: ofSmall.flopShare,
      flopShareLarge: ofLarge.flopShare,
      tokensPerSecondSmall: ofSmall.tokensPerSecond,
      tokensPerSecondLarge: ofLarge.tokensPerSecond,
      rssFlat,
    },
  );
}

const [job, blocks] = process.argv.slice(2);
if (job === undefined) await report();
else process.stdout.write(`${JSON.stringify(await measurePeak(Number(blocks)))}\n`);

// bench:emef: peak memory of fine-tuning adapters on packed INT2 codes, against the same on float32 weights and against calculation, for a
// Llama of 616 million weights, or with --model for the shape of any other: a name, or a directory with a config.json. Each is a process
// of its own. Both run the method `emef` on the same weights, which trains on layers that are not quantized as they are, with blocks that
// are computed again for the backward pass; so their losses must agree. Weights come as from a file, one layer at a time, and programs
// give their working memory back. What is measured is resident memory; a test counts the bytes of tensors.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, batchesOf, createRng, DenseLinear, type FinetuneContext, lazyTensor, type Model, tensor } from '@lowbit/core';
import {
  adapterParameters,
  configShape,
  type EmefOptions,
  emef,
  fittingGroupSize,
  llamaShape,
  type ModelShape,
  parameterCount,
  type RunMemory,
  runMemory,
  type TrainingRun,
} from '@lowbit/int2-lrec';
import { AffineWeight, dequantizeCodes, QuantizedLinear } from '@lowbit/quant';
import { describeModel } from '../model-reference.js';
import { type LlamaShape, type MakeLinear, syntheticLlama } from './llama.js';
import { reportBench } from './report.js';

/** Tokens; fewer where the model's context is shorter. */
const WINDOW = 256;
const STEPS = 2;
const BITS = 2;
const RANK = 8;
const TARGETS = ['q_proj', 'v_proj'];

/** What is trained, and what memory is calculated from. */
interface Subject {
  readonly shape: LlamaShape;
  readonly model: ModelShape;
  readonly groupSize: number;
}

/** Of 616 million weights where none is named. */
async function subjectOf(reference: string | undefined): Promise<Subject> {
  if (reference === undefined) {
    const shape: LlamaShape = { width: 2048, inner: 5504, blocks: 12, heads: 16, vocabulary: 4096, context: WINDOW };
    const { width: hiddenSize, inner: innerSize, blocks: blockCount, heads: headCount, vocabulary: vocabularySize } = shape;
    return {
      shape,
      model: llamaShape({ hiddenSize, innerSize, blockCount, headCount, vocabularySize, tiedEmbeddings: true }),
      groupSize: 64,
    };
  }
  const { config } = await describeModel(reference);
  const model = configShape(config);
  const shape: LlamaShape = {
    width: model.hiddenSize,
    inner: model.innerSize,
    blocks: model.blockCount,
    heads: config.headCount,
    keyValueHeads: config.keyValueHeadCount,
    headDim: config.headDim,
    vocabulary: config.vocabularySize,
    tied: config.tiedEmbeddings,
    context: Math.min(WINDOW, config.contextLength),
  };
  return { shape, model, groupSize: fittingGroupSize(model) };
}

/**
 * Large blocks go back to the system when they are freed. Once one of up to 32 MiB has been freed, glibc by itself takes later ones from its
 * heap, which keeps them and loses what does not fit: for stories15M one buffer of logits, 33 MB of no tensor.
 */
const returnsMemory = { MALLOC_MMAP_THRESHOLD_: String(2 ** 20) };

/** Compiles the code that a training runs through, before memory is measured. */
const warmUp: LlamaShape = { width: 128, inner: 192, blocks: 2, heads: 2, vocabulary: 64, context: WINDOW };

const rng = createRng(0);

/** Codes that all layers share, each from a place of its own on. */
const pattern = Uint8Array.from(rng.at('codes').integers(2 ** 20, 2 ** BITS));

function layerOf(path: string, outFeatures: number, inFeatures: number, groups: number) {
  const draws = rng.at(path);
  const zeroPoint = Uint8Array.from(draws.at('zero').integers(groups, 2), (zero) => zero + 1);
  const scale = draws
    .at('scale')
    .uniform(groups)
    .map((u) => (0.5 + u) * inFeatures ** -0.5);
  const [start] = draws.at('start').integers(1, pattern.length);
  const codes = (): Uint8Array => {
    const values = new Uint8Array(outFeatures * inFeatures);
    for (let at = 0, from = start; at < values.length; from = 0) {
      const part = pattern.subarray(from, from + values.length - at);
      values.set(part, at);
      at += part.length;
    }
    return values;
  };
  return { codes, scale, zeroPoint };
}

/** Groups of a layer's weight. @param groupSize −1: one an output. */
function groupCount(outFeatures: number, inFeatures: number, groupSize: number): number {
  return groupSize === -1 ? outFeatures : (outFeatures * inFeatures) / groupSize;
}

const quantizedLayer =
  (groupSize: number): MakeLinear =>
  (path, outFeatures, inFeatures) => {
    const groups = groupCount(outFeatures, inFeatures, groupSize);
    const { codes, scale, zeroPoint } = layerOf(path, outFeatures, inFeatures, groups);
    const grouped = [outFeatures, groups / outFeatures];
    return new QuantizedLinear(
      new AffineWeight({
        bits: BITS,
        codes: lazyTensor([outFeatures, inFeatures], 'uint8', codes),
        scale: tensor(scale, grouped),
        zeroPoint: tensor(zeroPoint, grouped),
        scaleDtype: 'float32',
      }),
    );
  };

/** The same weights in float32. */
const denseLayer =
  (groupSize: number): MakeLinear =>
  (path, outFeatures, inFeatures) => {
    const groups = groupCount(outFeatures, inFeatures, groupSize);
    const { codes, scale, zeroPoint } = layerOf(path, outFeatures, inFeatures, groups);
    const offset = scale.map((s, group) => -s * zeroPoint[group]);
    const grid = {
      bits: BITS,
      groupSize: (outFeatures * inFeatures) / groups,
      outFeatures,
      inFeatures,
      scale,
      offset,
      zeroPoint,
      zeroKind: 'integer',
      scaleDtype: 'float32',
    } as const;
    return new DenseLinear(lazyTensor([outFeatures, inFeatures], 'float32', () => dequantizeCodes(codes(), grid)));
  };

/** Trains a model's adapters; gives the losses of the steps. */
async function train(backend: Backend, model: Model): Promise<readonly number[]> {
  const { method, options } = emef({ rank: RANK, batchWindows: 1, epochs: STEPS, holdOut: 0 });
  const { vocabularySize, contextLength: length } = model.config;
  const tokens = tensor(rng.at('tokens').integers(length, vocabularySize), [1, length]);
  let losses: readonly number[] = [];
  const context: FinetuneContext<EmefOptions> = {
    backend,
    options,
    optionsFor: (path) => (TARGETS.some((name) => path.endsWith(name)) ? options : undefined),
    rng: rng.at('training'),
    reference: model,
    referenceBlock: async (index) => model.blocks[index],
    calibration: { ...batchesOf([tokens]), hash: '', description: 'random tokens' },
    signal: undefined,
    saved: undefined,
    save: async () => undefined,
    progress: () => undefined,
    log: (record) => {
      if (Array.isArray(record.losses)) losses = record.losses;
    },
    warn: () => undefined,
  };
  await method.finetune?.(model, context);
  return losses;
}

interface Measured {
  /** Bytes, before and at the peak. */
  readonly process: number;
  readonly peak: number;
  readonly losses: readonly number[];
  readonly seconds: number;
}

type Weights = 'dense' | 'packed';

/** What a child process does: the figures on standard output. */
async function measure(weights: Weights, { shape, groupSize }: Subject): Promise<void> {
  const layers = weights === 'dense' ? denseLayer : quantizedLayer;
  const backend = await createOnnxBackend({ keepMemory: false });
  await train(backend, syntheticLlama(warmUp, layers(64)));
  const process_ = process.memoryUsage().rss;
  const started = performance.now();
  const losses = await train(backend, syntheticLlama(shape, layers(groupSize)));
  const measured: Measured = {
    process: process_,
    peak: process.resourceUsage().maxRSS * 1024,
    losses,
    seconds: (performance.now() - started) / 1000,
  };
  await backend.dispose();
  process.stdout.write(`${JSON.stringify(measured)}\n`);
}

function report({ shape, model, groupSize }: Subject): void {
  const script = fileURLToPath(import.meta.url);
  const child = (weights: Weights): Measured => {
    const args = [...process.execArgv, script, weights, ...process.argv.slice(2)];
    return JSON.parse(String(execFileSync(process.execPath, args, { env: { ...process.env, ...returnsMemory } }))) as Measured;
  };
  const [dense, packed] = [child('dense'), child('packed')];

  const run = { adapters: adapterParameters(model, RANK, TARGETS), windows: 1, tokens: shape.context };
  const calculated = (weights: TrainingRun['weights'], { process }: Measured): RunMemory => runMemory(model, { ...run, weights, process });
  const ofDense = calculated('float32', dense);
  const ofPacked = calculated({ bits: BITS, groupSize, zero: 'integer' }, packed);
  const lossDifference = Math.max(...packed.losses.map((loss, i) => Math.abs(loss / dense.losses[i] - 1)));

  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
  const parts = ({ total: _total, tensors: _tensors, ...rest }: RunMemory): string =>
    Object.entries(rest)
      .map(([name, bytes]) => `${name} ${megabytes(bytes)}`)
      .join(', ');
  const beyond = ({ peak, process }: Measured, { total }: RunMemory): string =>
    `${megabytes(peak - process)} MB, calculated ${megabytes(total - process)}`;
  const metrics = {
    peakOverDense: packed.peak / dense.peak,
    peakOverModel: packed.peak / ofPacked.total,
    densePeakOverModel: dense.peak / ofDense.total,
    peakMegabytes: packed.peak / 1e6,
    lossDifference,
  };
  reportBench(
    'emef',
    [
      [
        'model',
        `${(parameterCount(model) / 1e6).toFixed(0)} M weights, width ${shape.width}, ${shape.blocks} blocks; one window of ${shape.context} tokens`,
      ],
      ['adapters', `rank ${RANK} on ${TARGETS.join(' and ')}, ${STEPS} steps`],
      ['float32 weights: peak', `${megabytes(dense.peak)} MB; calculated ${megabytes(ofDense.total)}: ${parts(ofDense)}`],
      [
        `INT${BITS} codes, groups of ${groupSize}: peak`,
        `${megabytes(packed.peak)} MB; calculated ${megabytes(ofPacked.total)}: ${parts(ofPacked)}`,
      ],
      [
        'the same beyond what the process held before',
        `${beyond(dense, ofDense)} on float32 weights; ${beyond(packed, ofPacked)} on codes`,
      ],
      ['peak over that of float32 weights', metrics.peakOverDense.toFixed(3)],
      [
        'peak over the calculated one',
        `${metrics.peakOverModel.toFixed(3)}; with float32 weights ${metrics.densePeakOverModel.toFixed(3)}`,
      ],
      ['largest relative difference of losses', lossDifference.toExponential(1)],
      ['time, weights read, start judged, programs compiled', `${dense.seconds.toFixed(0)} s and ${packed.seconds.toFixed(0)} s`],
    ],
    metrics,
  );
}

const { positionals, values } = parseArgs({ allowPositionals: true, options: { model: { type: 'string' } } });
const subject = await subjectOf(values.model);
if (positionals[0]) await measure(positionals[0] as Weights, subject);
else report(subject);

// bench:quzo: what a step of training by forward passes costs beside a forward pass alone and beside a step with gradients, for a Llama
// with INT8 codes. Peak memory is that of processes that do one thing each; times are of one process, in turns. Weights come as from a
// file, one layer at a time, and for memory programs give their working memory back. Ratios of one run.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, createRng, lazyTensor, type Model, materialize, mul, sub, type Tensor, tensor, tensorsOf } from '@lowbit/core';
import { AffineWeight, QuantizedLinear } from '@lowbit/quant';
import { derivativesOf, llamaShape, openRun, planOf, type QuzoInput, quzo, type Run, type StepMemory, stepMemory } from '@lowbit/quzo';
import { modelGradients, modelLoss, type TaskBatch, taskLoss } from '@lowbit/train';
import { type LlamaShape, type MakeLinear, syntheticLlama } from './llama.js';
import { reportBench } from './report.js';

const WINDOWS = 16;
const TOKENS = 256;
const DEEP = 6;
const SHALLOW = 2;
/** Inputs that share a scale. */
const GROUP = 128;
const ROUNDS = 5;

const shapeOf = (blocks: number): LlamaShape => ({ width: 1024, inner: 2816, blocks, heads: 16, vocabulary: 4096, context: TOKENS });

/** Compiles the code that a step runs through, before memory is measured. */
const warmUp: LlamaShape = { width: 128, inner: 256, blocks: 2, heads: 2, vocabulary: 64, context: TOKENS };

const rng = createRng(0);

/** Codes that all layers share: what a model says does not matter. */
const pattern = Uint8Array.from(rng.at('codes').integers(2 ** 20, 256));

/** INT8 codes that are there once they are read. */
const codedLayer: MakeLinear = (_, outFeatures, inFeatures) => {
  const size = outFeatures * inFeatures;
  const codes = (): Uint8Array => {
    const values = new Uint8Array(size);
    for (let at = 0; at < size; at += pattern.length) values.set(pattern.subarray(0, size - at), at);
    return values;
  };
  const perGroup = [outFeatures, inFeatures / GROUP];
  const scale = new Float32Array(size / GROUP).fill(inFeatures ** -0.5 / 74);
  return new QuantizedLinear(
    new AffineWeight({
      bits: 8,
      codes: lazyTensor([outFeatures, inFeatures], 'uint8', codes),
      scale: tensor(scale, perGroup),
      scaleDtype: 'float32',
    }),
  );
};

/** Windows of random tokens, every next one predicted. */
function batchOf({ vocabulary }: LlamaShape): TaskBatch {
  const ids = Int32Array.from(rng.at('tokens').integers(WINDOWS * TOKENS, vocabulary));
  const positions = Int32Array.from(ids.keys()).filter((position) => position % TOKENS !== TOKENS - 1);
  return {
    tokens: tensor(ids, [WINDOWS, TOKENS]),
    positions,
    targets: positions.map((position) => ids[position + 1]),
    weights: new Float32Array(positions.length).fill(1 / positions.length),
    candidates: undefined,
  };
}

const forward = async (backend: Backend, model: Model, batch: TaskBatch): Promise<number> =>
  (await modelLoss({ backend, model, tokens: batch.tokens, positions: batch.positions, lossOf: taskLoss(batch) })).loss;

/** A run of quzo that is to take one step after another: signs, one rounding, codes. */
async function runOn(model: Model, chosen: Pick<QuzoInput, 'rounding' | 'carry'>): Promise<Run> {
  const input: QuzoInput = { preset: 'quzo-lattice-int8', schedule: 'constant', ...chosen };
  const { options } = quzo(input);
  return openRun(model, { format: 'lowbit-quzo', version: 1, runSeed: 1, options: { ...options }, ...planOf(model, () => options) });
}

/** Two of them: what the first leaves behind is there in the second. Loss of the first. */
async function takeSteps(backend: Backend, run: Run, batch: TaskBatch): Promise<number> {
  const losses: number[] = [];
  for (const step of [1, 2]) {
    const { loss, mu = [] } = await derivativesOf(backend, run, step, batch);
    run.apply({ step, mu });
    losses.push(loss);
  }
  return losses[0];
}

/** A step of gradient descent on all weights of the blocks' Linears. */
async function descend(backend: Backend, model: Model, batch: TaskBatch): Promise<number> {
  const parameters = new Map<string, Tensor>();
  for (const { path, linears } of model.blocks)
    for (const [name, linear] of Object.entries(linears)) parameters.set(`${path}.${name}.weight`, [...tensorsOf(linear).values()][0]);
  const { tokens, positions } = batch;
  const { loss, gradients } = await modelGradients({ backend, model, tokens, positions, parameters, lossOf: taskLoss(batch) });
  for (const [name, gradient] of gradients) {
    const weight = parameters.get(name) as Tensor;
    await backend.evaluate([sub(weight, mul(gradient, tensor(1e-3)))], { release: [gradient] });
  }
  return loss;
}

const stepsOf = async (backend: Backend, shape: LlamaShape, chosen: Pick<QuzoInput, 'rounding' | 'carry'>): Promise<number> =>
  takeSteps(backend, await runOn(syntheticLlama(shape, codedLayer), chosen), batchOf(shape));

/** What a process does; its peak is compared with that of the others. */
const jobs: Readonly<Record<string, (backend: Backend, shape: LlamaShape) => Promise<number>>> = {
  inference: async (backend, shape) => forward(backend, await materialize(syntheticLlama(shape, codedLayer)), batchOf(shape)),
  step: (backend, shape) => stepsOf(backend, shape, { rounding: 'sr' }),
  carry: (backend, shape) => stepsOf(backend, shape, { rounding: 'error-feedback' }),
  shortCarry: (backend, shape) => stepsOf(backend, shape, { rounding: 'error-feedback', carry: '16-bit' }),
  rebuiltCarry: (backend, shape) => stepsOf(backend, shape, { rounding: 'error-feedback', carry: 'replay' }),
  gradients: (backend, shape) => descend(backend, syntheticLlama(shape), batchOf(shape)),
};

interface Peak {
  /** Bytes, before and at the peak. */
  readonly process: number;
  readonly peak: number;
  readonly loss: number;
}

async function measurePeak(job: string, blocks: number): Promise<Peak> {
  const backend = await createOnnxBackend({ keepMemory: false });
  await jobs[job](backend, warmUp);
  const { rss } = process.memoryUsage();
  const loss = await jobs[job](backend, shapeOf(blocks));
  const peak = process.resourceUsage().maxRSS * 1024;
  await backend.dispose();
  return { process: rss, peak, loss };
}

/** Milliseconds of a forward pass, and of the losses and the update of a step after it, round by round. */
interface Times {
  readonly forward: readonly number[];
  readonly losses: readonly number[];
  readonly update: readonly number[];
}

async function measureTimes(): Promise<Times> {
  const shape = shapeOf(SHALLOW);
  const [backend, batch] = [await createOnnxBackend(), batchOf(shape)];
  const run = await runOn(syntheticLlama(shape, codedLayer), { rounding: 'error-feedback' });
  const { model } = run.trained;
  const times: Record<keyof Times, number[]> = { forward: [], losses: [], update: [] };
  const timed = async <T>(name: keyof Times, round: number, work: () => T | Promise<T>): Promise<T> => {
    const started = performance.now();
    const result = await work();
    // The first round compiles and is not counted.
    if (round > 0) times[name].push(performance.now() - started);
    return result;
  };
  for (let round = 0; round <= ROUNDS; round++) {
    await timed('forward', round, () => forward(backend, model, batch));
    const { mu = [] } = await timed('losses', round, () => derivativesOf(backend, run, round + 1, batch));
    await timed('update', round, () => run.apply({ step: round + 1, mu }));
  }
  await backend.dispose();
  return times;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

function child<T>(...words: readonly string[]): T {
  const script = fileURLToPath(import.meta.url);
  return JSON.parse(String(execFileSync(process.execPath, [...process.execArgv, script, ...words]))) as T;
}

/** Bytes of codes and scales. */
function codeBytes(blocks: number): number {
  const { width, inner } = shapeOf(blocks);
  return blocks * (4 * width * width + 3 * width * inner) * (1 + 4 / GROUP);
}

/** What a step is calculated to take. */
function calculated({ process }: Peak, carryBytes: 0 | 2 | 4): StepMemory {
  const { width, inner, heads, vocabulary, blocks } = shapeOf(DEEP);
  const config = { hiddenSize: width, blockCount: blocks, headCount: heads, keyValueHeadCount: heads, headDim: width / heads };
  const shape = llamaShape({ ...config, vocabularySize: vocabulary, tiedEmbeddings: true }, inner);
  return stepMemory(shape, { windows: WINDOWS, tokens: TOKENS, groupSize: GROUP, carryBytes, process });
}

function report(): void {
  const peak = (job: string, blocks: number): Peak => child<Peak>(job, String(blocks));
  const [inference, step, carry, shortCarry, rebuiltCarry, gradients] = [
    'inference',
    'step',
    'carry',
    'shortCarry',
    'rebuiltCarry',
    'gradients',
  ].map((job) => peak(job, DEEP));
  const shallow = peak('step', SHALLOW);
  const shallowGradients = peak('gradients', SHALLOW);
  const times = child<Times>('times');

  const beside = ({ peak, process }: Peak, blocks: number): number => peak - process - codeBytes(blocks);
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
  const show = ({ peak, process }: Peak): string => `${megabytes(peak)}, of which the process had ${megabytes(process)} before`;
  const seconds = (milliseconds: readonly number[]): string => `${(median(milliseconds) / 1000).toFixed(2)} s`;
  const parts = ({ total, ...rest }: StepMemory): string =>
    [...Object.entries(rest), ['in all', total] as const].map(([name, bytes]) => `${name} ${megabytes(bytes)}`).join(', ');
  const metrics = {
    rssOverInference: step.peak / inference.peak,
    carryOverInference: carry.peak / inference.peak,
    shortCarryOverInference: shortCarry.peak / inference.peak,
    rebuiltCarryOverInference: rebuiltCarry.peak / inference.peak,
    gradientsOverStep: gradients.peak / step.peak,
    peakOverModel: step.peak / calculated(step, 0).total,
    carryPeakOverModel: carry.peak / calculated(carry, 4).total,
    activationsFlatness: beside(step, DEEP) / beside(shallow, SHALLOW),
    stepOverForward: median(times.forward.map((forward, i) => (times.losses[i] + times.update[i]) / forward)),
    lossesOverForward: median(times.forward.map((forward, i) => times.losses[i] / forward)),
  };
  const { width, inner } = shapeOf(DEEP);
  const perBlock = (deep: Peak, few: Peak): string => megabytes((deep.peak - few.peak) / (DEEP - SHALLOW));
  reportBench(
    'quzo',
    [
      ['model', `width ${width}, inner ${inner}, INT8 codes in groups of ${GROUP}; ${WINDOWS} windows of ${TOKENS} tokens`],
      [`inference, ${DEEP} blocks: peak`, show(inference)],
      ['step, rounded at random: peak', show(step)],
      ['step with a float32 carry: peak', show(carry)],
      ['step with a carry of 16 bits: peak', show(shortCarry)],
      ['step with a carry that is rebuilt: peak', show(rebuiltCarry)],
      ['step with gradients, float32 weights: peak', show(gradients)],
      [
        'peak of a step over that of inference',
        `${metrics.rssOverInference.toFixed(3)}; with a carry ${metrics.carryOverInference.toFixed(3)}, of 16 bits ${metrics.shortCarryOverInference.toFixed(3)}, rebuilt ${metrics.rebuiltCarryOverInference.toFixed(3)}`,
      ],
      [
        'peak over the calculated one',
        `${metrics.peakOverModel.toFixed(3)}, with a carry ${metrics.carryPeakOverModel.toFixed(3)}; calculated: ${parts(calculated(step, 0))}`,
      ],
      ['peak with gradients over that of a step', metrics.gradientsOverStep.toFixed(2)],
      [
        `beside codes and process, ${DEEP} and ${SHALLOW} blocks`,
        `${megabytes(beside(step, DEEP))} and ${megabytes(beside(shallow, SHALLOW))}: ${metrics.activationsFlatness.toFixed(3)}`,
      ],
      [
        'peak, each block more',
        `${perBlock(step, shallow)}, its codes ${megabytes(codeBytes(1))}; with gradients ${perBlock(gradients, shallowGradients)}`,
      ],
      [
        `time with a carry, ${SHALLOW} blocks`,
        `forward ${seconds(times.forward)}, losses of a step ${seconds(times.losses)}, its update ${seconds(times.update)}`,
      ],
      [
        'step over forward, median of rounds',
        `${metrics.stepOverForward.toFixed(3)}; its losses alone ${metrics.lossesOverForward.toFixed(3)}`,
      ],
    ],
    metrics,
  );
}

const [job, blocks] = process.argv.slice(2);
if (job === undefined) report();
else process.stdout.write(`${JSON.stringify(job === 'times' ? await measureTimes() : await measurePeak(job, Number(blocks)))}\n`);

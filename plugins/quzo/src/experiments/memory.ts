// Peak memory of steps of our own, by forward passes and by gradients, counted on a model, beside the calculation and the published ratios.
import {
  type Backend,
  type ExperimentClaim,
  type ExperimentRow,
  type Model,
  materialize,
  type Rng,
  type StudyContext,
  type StudyExperiment,
  type Tensor,
  tensor,
  tensorsOf,
  throwIfAborted,
} from '@lowbit/core';
import { numberOf, show } from '@lowbit/core/experiments';
import { adam, modelGradients, modelLoss, type NamedTensors, type TaskBatch, taskLoss, trainStep } from '@lowbit/train';
import { derivativesOf } from '../derivatives.js';
import { type ModelShape, shapeOf } from '../memory-model.js';
import { type QuzoInput, quzoOptions } from '../options.js';
import { withAdapters } from '../perturbation/adapters.js';
import { planOf } from '../perturbation/parameters.js';
import { openRun } from '../run.js';
import { gradientStepBytes, stepMemory } from '../run-memory.js';
import { arm, bases } from './arms.js';
import { type CountingBackend, countingBackend } from './counting-backend.js';
import { llamaRows, publishedClaims } from './table-memory.js';

const WINDOWS = 2;
const MOST_TOKENS = 256;
const MB = 1e6;

/** Random tokens: what they say does not matter. */
function batchOf({ config }: Model, rng: Rng): TaskBatch {
  const tokens = Math.min(MOST_TOKENS, config.contextLength);
  const ids = Int32Array.from(rng.at('tokens').integers(WINDOWS * tokens, config.vocabularySize));
  const positions = Int32Array.from(ids.keys()).filter((position) => position % tokens !== tokens - 1);
  return {
    tokens: tensor(ids, [WINDOWS, tokens]),
    positions,
    targets: positions.map((position) => ids[position + 1]),
    weights: new Float32Array(positions.length).fill(1 / positions.length),
    candidates: undefined,
  };
}

const buffersOf = (tensors: Iterable<Tensor>): ArrayBufferLike[] =>
  [...tensors].flatMap(({ source }) => (source.kind === 'leaf' && source.data ? [source.data.buffer] : []));

/** Peak bytes of some work on a model in memory. */
type Work = (backend: Backend, model: Model, batch: TaskBatch) => Promise<number>;

const forwardPass: Work = async (backend, model, batch) => {
  const counting = countingBackend(backend, () => buffersOf(tensorsOf(model).values()));
  await modelLoss({ backend: counting, model, tokens: batch.tokens, positions: batch.positions, lossOf: taskLoss(batch) });
  return counting.peak;
};

/** Two steps of quzo: what the first leaves behind is there in the second. */
function byForwardPasses(input: QuzoInput): Work {
  return async (backend, model, batch) => {
    const options = quzoOptions.parse({ schedule: 'constant', ...input });
    const plan = planOf(model, () => options);
    const run = await openRun(model, { format: 'lowbit-quzo', version: 1, runSeed: 1, options: { ...options }, ...plan });
    const { trained, scratch } = run;
    const kept = (): ArrayBufferLike[] => [
      ...buffersOf(tensorsOf(trained.model).values()),
      ...trained.parameters.flatMap(({ slots }) => slots.buffers()),
      ...scratch.buffers(),
    ];
    const counting = countingBackend(backend, kept);
    for (const step of [1, 2]) run.apply({ step, mu: (await derivativesOf(counting, run, step, batch)).mu ?? [] });
    return counting.peak;
  };
}

/** A step of AdamW on some tensors of a model, by name. Blocks are computed again for the backward pass. */
async function gradientStep(backend: Backend, model: Model, batch: TaskBatch, isTrained: (name: string) => boolean): Promise<number> {
  const parameters = new Map([...tensorsOf(model)].filter(([name]) => isTrained(name)));
  const optimizer = adam({ weightDecay: 0.01 });
  const state = optimizer.start(parameters);
  const moments = Object.values(state.slots).flatMap((slot) => [...slot.values()]);
  const counting: CountingBackend = countingBackend(backend, () => buffersOf([...tensorsOf(model).values(), ...moments]));
  const { tokens, positions } = batch;
  const lossOf = (now: NamedTensors) =>
    modelGradients({ backend: counting, model, tokens, positions, parameters: now, lossOf: taskLoss(batch) });
  await trainStep({ backend: counting, optimizer, state, lossOf, step: 1, learningRate: 1e-4, release: true });
  return counting.peak;
}

const fullTuning: Work = (backend, model, batch) => gradientStep(backend, model, batch, () => true);

const adapterTuning: Work = (backend, model, batch) => {
  const options = quzoOptions.parse({ preset: 'zo-lora-int4' });
  const { adapters, parameters } = planOf(model, () => options);
  const names = new Set(parameters.map(({ name }) => name));
  return gradientStep(backend, withAdapters(model, adapters, 1), batch, (name) => names.has(name));
};

interface Tried {
  readonly of: 'codes' | 'float32';
  readonly work: Work;
  /** Bytes by calculation, where there is one. */
  readonly calculated?: (shape: ModelShape, tokens: number) => number;
}

const GROUP = bases.INT8.options.groupSize;

function onCodes(input: QuzoInput, carryBytes: 0 | 2 | 4): Tried {
  const calculated: Tried['calculated'] = (shape, tokens) =>
    stepMemory(shape, { windows: WINDOWS, tokens, groupSize: GROUP, carryBytes, process: 0 }).total;
  return { of: 'codes', work: byForwardPasses(input), calculated };
}

const INFERENCE = 'a forward pass, INT8 codes';
const STEP = 'a step of quzo on INT8 codes, rounded at random';
const REBUILT = 'the same with error feedback, the carry rebuilt';
const SHORT = 'the same, the carry in 16 bits';
const LONG = 'the same, the carry in float32';
const LORA = 'a step of quzo on new adapters of rank 4';
const LORA_BY_GRADIENTS = 'a step of AdamW on such adapters';
const ADAMW = 'a step of AdamW on all float32 weights';

const tried: Readonly<Record<string, Tried>> = {
  [INFERENCE]: { of: 'codes', work: forwardPass },
  [STEP]: onCodes({ rounding: 'sr' }, 0),
  [REBUILT]: onCodes({ carry: 'replay' }, 0),
  [SHORT]: onCodes({ carry: '16-bit' }, 2),
  [LONG]: onCodes({}, 4),
  'a step of quzo on scales': { of: 'codes', work: byForwardPasses({ preset: 'qzo-int4' }) },
  [LORA]: { of: 'codes', work: byForwardPasses({ preset: 'zo-lora-int4', queries: 1 }) },
  [LORA_BY_GRADIENTS]: { of: 'codes', work: adapterTuning },
  'a forward pass, float32 weights': { of: 'float32', work: forwardPass },
  'a step of MeZO on all float32 Linears': { of: 'float32', work: byForwardPasses({ preset: 'mezo' }) },
  [ADAMW]: {
    of: 'float32',
    work: fullTuning,
    calculated: (shape, tokens) => gradientStepBytes(shape, { windows: WINDOWS, tokens }),
  },
};

/** What is said to be how many times the memory of what. */
const ratios: readonly (readonly [string, string])[] = [
  [STEP, INFERENCE],
  [REBUILT, INFERENCE],
  [SHORT, INFERENCE],
  [LONG, INFERENCE],
  [ADAMW, STEP],
  [LORA_BY_GRADIENTS, LORA],
];

async function study({ outcome, dense, quantized, backend, rng, signal, progress }: StudyContext): Promise<ExperimentRow[]> {
  const config = outcome.model;
  const batch = batchOf(dense, rng);
  const shape = shapeOf(dense.config);
  const tokens = batch.tokens.shape[1];
  const rows: ExperimentRow[] = llamaRows();
  const counted = new Map<string, number>();
  for (const [quantity, { of, work, calculated }] of Object.entries(tried)) {
    throwIfAborted(signal);
    progress(counted.size, Object.keys(tried).length);
    const bytes = await work(backend, await materialize(of === 'codes' ? quantized : dense), batch);
    counted.set(quantity, bytes);
    const row = { config, quantity, baseline: '', unit: 'MB', counted: bytes / MB };
    rows.push(calculated ? { ...row, calculated: calculated(shape, tokens) / MB } : row);
  }
  const times = (quantity: string, baseline: string): ExperimentRow => {
    const ratio = (counted.get(quantity) ?? Number.NaN) / (counted.get(baseline) ?? Number.NaN);
    const [above, below] = [quantity, baseline].map((name) => tried[name].calculated?.(shape, tokens));
    const row = { config, quantity, baseline, unit: 'times', counted: ratio };
    return above !== undefined && below !== undefined ? { ...row, calculated: above / below } : row;
  };
  return [...rows, ...ratios.map(([quantity, baseline]) => times(quantity, baseline))];
}

/** Of a step that keeps nothing for each code. */
const BAR = 1.15;

const claims: readonly ExperimentClaim[] = [
  ...publishedClaims,
  {
    name: 'inference',
    statement: `A step takes at most ${BAR} times the memory of a forward pass, rounded at random or with a carry that is rebuilt`,
    check: (rows) =>
      rows
        .filter(({ quantity, baseline }) => (quantity === STEP || quantity === REBUILT) && baseline === INFERENCE)
        .map(({ config, quantity, counted }) => ({
          subject: `${config}, ${quantity}`,
          holds: numberOf(counted) <= BAR,
          evidence: `${show(numberOf(counted))} times`,
        })),
  },
];

export const memory: StudyExperiment = {
  name: 'memory',
  title: 'Peak memory of steps by forward passes and by gradients, counted, beside the published ratios',
  description:
    `A step of each kind is taken on a model with INT8 codes or float32 weights, on ${WINDOWS} windows of random tokens. Counted are the bytes of tensors that live at one time: weights, gradients, moments, carries, buffers of directions, what blocks hand on, and values of an evaluation from when they are made to their last use; codes lie in a byte each, activations are float32, and gradients compute blocks again. ` +
    'No process and no engine is in it: `pnpm bench:quzo` measures resident memory. Calculated are steps on this engine, which holds some values longer, and the published ratios, which are those of weights of LLaMA-7B; on a small model activations outweigh weights, in training and in inference alike. No text is read (--text changes nothing).',
  source: 'arXiv 2502.12346, abstract: 2.94 times less memory (version 1), up to 5.47 times; 7.8 against float16 training',
  models: ['tiny'],
  seeds: [0],
  calibrationWindows: 4,
  heldOutWindows: 4,
  arms: [arm([bases.INT8], { base: 'INT8' })],
  study,
  table: { rows: ['config', 'quantity', 'baseline', 'unit'], values: ['counted', 'calculated', 'published'] },
  figure: {
    transform: [{ filter: "datum.unit === 'MB'" }],
    facet: { row: { field: 'config', type: 'nominal', title: null } },
    spec: {
      width: 480,
      height: 260,
      mark: 'bar',
      encoding: {
        x: { field: 'counted', type: 'quantitative', title: 'MB' },
        y: { field: 'quantity', type: 'nominal', title: null, sort: null, axis: { labelLimit: 340 } },
      },
    },
    resolve: { scale: { x: 'independent' } },
  },
  claims,
};

// What trainers hold of LLaMA-7B and of other models, by calculation: the published ratios with their baselines.
import {
  type ComputedExperiment,
  type ExperimentClaim,
  type ExperimentContext,
  type ExperimentModel,
  type ExperimentRow,
  throwIfAborted,
} from '@lowbit/core';
import { publishedClaim } from '@lowbit/core/experiments';
import {
  forwardBytes,
  forwardTrainers,
  gradientTrainers,
  keptBytes,
  llama7B,
  type ModelShape,
  parameterCount,
  publishedRatios,
  quantizedBytes,
  shapeOf,
  type Trainer,
} from '../memory-model.js';
import { stepMemory } from '../run-memory.js';

const GB = 1e9;

/** Figures of the abstracts (versions 1 and 2), and one that is cited of the text. */
const PUBLISHED = { int8: 2.94, int4: 5.47, adam: 7.8 };

interface Sized {
  /** As tables call it. */
  readonly config: string;
  readonly shape: ModelShape;
  /** Of the windows in a batch. */
  readonly tokens: number;
}

const llama: Sized = { config: 'LLaMA-7B', shape: llama7B, tokens: 512 };

function sizedModel({ name, config }: ExperimentModel): Sized {
  return { config: name, shape: shapeOf(config), tokens: Math.min(512, config.contextLength) };
}

async function compute({ signal, models = [] }: ExperimentContext): Promise<ExperimentRow[]> {
  throwIfAborted(signal);
  return [llama, ...models.map(sizedModel)].flatMap((sized) => [
    ...(sized === llama ? llamaRows() : ratioRows(sized)),
    ...checkpointRows(sized),
    ...trainerRows(sized),
    ...figureRows(sized),
  ]);
}

/** The published ratios, calculated. */
export function llamaRows(): ExperimentRow[] {
  return ratioRows(llama, PUBLISHED);
}

function ratioRows({ config, shape }: Sized, published?: typeof PUBLISHED): ExperimentRow[] {
  const ratios = publishedRatios(shape);
  return (['int8', 'int4', 'adam'] as const).map((name) => {
    const { of, over, ratio } = ratios[name];
    const row = { config, quantity: of, baseline: over, unit: 'times', calculated: ratio };
    return published ? { ...row, published: published[name] } : row;
  });
}

function checkpointRows({ config, shape }: Sized): ExperimentRow[] {
  const formats = [
    { bits: 8, groupSize: -1, text: 'a scale an output' },
    { bits: 4, groupSize: -1, text: 'a scale an output' },
    { bits: 4, groupSize: 128, text: 'groups of 128' },
  ];
  const row = (quantity: string, bytes: number): ExperimentRow => ({ config, quantity, baseline: '', unit: 'GB', calculated: bytes / GB });
  return [
    row('checkpoint in float16', 2 * parameterCount(shape)),
    ...formats.map(({ text, ...format }) => row(`checkpoint, INT${format.bits}, ${text}`, quantizedBytes(shape, format))),
  ];
}

const carryNames = { 0: '', 2: ', with a carry of 16 bits', 4: ', with a float32 carry' } as const;

const held = ({ weights, training }: Trainer): number => weights + training;

/** What each trainer holds, how many times the memory of QuZO that is, and the same with a batch in both. */
function trainerRows({ config, shape, tokens }: Sized): ExperimentRow[] {
  const [forward, backward] = [forwardTrainers(shape, -1), gradientTrainers(shape, -1)];
  const codes = forward.filter(({ training }, i) => training === 0 && i < forward.length - 1);
  const batch = { windows: 4, tokens };
  const live = forwardBytes(shape, batch);
  const whole = live + keptBytes(shape, batch);
  const [first] = backward;
  const own = (carryBytes: 0 | 2 | 4): number => stepMemory(shape, { ...batch, groupSize: -1, carryBytes, process: 0 }).total;
  return [
    ...[...forward, ...backward].map((trainer) => ({
      ...{ config, quantity: trainer.name, baseline: '', unit: 'GB', calculated: held(trainer) / GB },
    })),
    ...backward.flatMap((trainer) =>
      codes.map((over) => ({
        ...{ config, quantity: trainer.name, baseline: over.name, unit: 'times', calculated: held(trainer) / held(over) },
      })),
    ),
    { config, quantity: `activations of 4 windows of ${tokens} tokens, forward passes`, baseline: '', unit: 'GB', calculated: live / GB },
    { config, quantity: 'the same with all that back-propagation keeps', baseline: '', unit: 'GB', calculated: whole / GB },
    ...([0, 2, 4] as const).map((carryBytes) => ({
      ...{ config, quantity: `a step of quzo on this engine${carryNames[carryBytes]}, without its process`, baseline: '' },
      ...{ unit: 'GB', calculated: own(carryBytes) / GB },
    })),
    ...codes.map((over) => ({
      ...{ config, quantity: `${first.name}, with all activations of those windows`, baseline: `${over.name}, with its own activations` },
      ...{ unit: 'times', calculated: (held(first) + whole) / (held(over) + live) },
    })),
  ];
}

/** For the figure; without a quantity they have no line in the table. */
function figureRows({ config, shape, tokens }: Sized): ExperimentRow[] {
  const batch = { windows: 4, tokens };
  const live = forwardBytes(shape, batch);
  const rows = (trainer: Trainer, activations: number): ExperimentRow[] =>
    Object.entries({ weights: trainer.weights, 'gradients, moments, adapters, carries': trainer.training, activations }).map(
      ([part, bytes]) => ({ config, run: trainer.name, part, GB: bytes / GB }),
    );
  return [
    ...forwardTrainers(shape, -1).flatMap((trainer) => rows(trainer, live)),
    ...gradientTrainers(shape, -1).flatMap((trainer) => rows(trainer, live + keptBytes(shape, batch))),
  ];
}

/** One for each published ratio. */
export const publishedClaims: readonly ExperimentClaim[] = [
  publishedClaim({
    name: 'int8',
    statement: `Training INT8 codes takes ${PUBLISHED.int8} times less memory than quantized first-order training`,
    value: PUBLISHED.int8,
    within: 0.005,
  }),
  publishedClaim({
    name: 'int4',
    statement: `Training INT4 codes takes ${PUBLISHED.int4} times less memory than quantized first-order training`,
    value: PUBLISHED.int4,
    within: 0.005,
  }),
  publishedClaim({
    name: 'adam',
    statement: `Training INT8 codes takes ${PUBLISHED.adam} times less memory than float16 training`,
    value: PUBLISHED.adam,
    within: 0.02,
  }),
];

export const tableMemory: ComputedExperiment = {
  name: 'table-memory',
  title: 'Memory of training by forward passes and of training by gradients, for LLaMA-7B and other models',
  description:
    'What trainers hold, calculated from shapes: packed codes with float16 scales; embedding, head and norms in float16; gradients and moments of all weights where there are any. Training by forward passes keeps the values of one block and the logits, ' +
    'back-propagation those of all blocks. The paper does not say how its ratios are taken: 2.94 and 5.47 relate as the INT8 and the INT4 checkpoint do, and fit first-order training of INT8 codes with float16 gradients; 7.8 fits float16 Adam. They leave out the activations of the trainer below the line, ' +
    'and hold for updates without a carry: the carry of error feedback takes four bytes a code, or two in 16 bits, more than the codes; one that is rebuilt from the log (`carry: replay`) takes none. --model names other models, of which a directory with a config.json is enough. Lines of this engine are for codes of a byte and float32 activations; `quzo/memory` counts what steps take beside the same ratios, and `pnpm bench:quzo` measures it.',
  source: 'arXiv 2502.12346, abstract: 2.94 times less memory (version 1), up to 5.47 times; 7.8 against float16 training',
  compute,
  models: ['tiny', 'stories15M'],
  table: { rows: ['config', 'quantity', 'baseline', 'unit'], values: ['calculated', 'published'] },
  figure: {
    transform: [{ filter: 'isValid(datum.GB)' }],
    facet: { row: { field: 'config', type: 'nominal', title: null, sort: ['LLaMA-7B'] } },
    spec: {
      width: 480,
      height: 220,
      mark: 'bar',
      encoding: {
        x: { field: 'GB', type: 'quantitative', title: 'GB' },
        y: { field: 'run', type: 'nominal', title: 'trainer', sort: null, axis: { labelLimit: 340 } },
        color: { field: 'part', type: 'nominal', title: null },
      },
    },
    resolve: { scale: { x: 'independent' } },
  },
  claims: publishedClaims,
};

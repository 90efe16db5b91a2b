// What fine-tuning on packed codes takes and what adapters add, by calculation and by counting.
import {
  type ClaimVerdict,
  type ComputedExperiment,
  type ExperimentClaim,
  type ExperimentContext,
  type ExperimentRow,
  throwIfAborted,
} from '@lowbit/core';
import {
  adapterParameters,
  bitsPerWeight,
  type CodeFormat,
  GPU_CONTEXT_BYTES,
  llama7B,
  logitBytes,
  parameterCount,
  publishedRatios,
  quantizedBytes,
  type TrainingMemory,
  trainingMemory,
} from '../memory-model.js';
import { countedRows } from './counted.js';
import { numberOf } from './samples.js';

const GB = 1e9;
const six = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj'];
const seven = [...six, 'down_proj'];

/** A figure of LLaMA-7B. */
function figure(quantity: string, baseline: string, unit: string, calculated: number, published?: number): ExperimentRow {
  return { quantity, baseline, unit, calculated, ...(published !== undefined && { published }) };
}

const int = (bits: number, groupSize = 128): CodeFormat => ({ bits, groupSize });

function checkpointRows(): ExperimentRow[] {
  const adapters = adapterParameters(llama7B, 32, six);
  const onAll = adapterParameters(llama7B, 32, seven);
  const { overhead } = publishedRatios(llama7B);
  const share = (quantity: string, baseline: string, bytes: number, format: CodeFormat): ExperimentRow =>
    figure(quantity, baseline, 'times', 1 + bytes / quantizedBytes(llama7B, format));
  const float16 = (2 * parameterCount(llama7B)) / (quantizedBytes(llama7B, int(2)) + 2 * adapters);
  return [
    ...[8, 4, 3, 2].flatMap((bits) => [
      figure(`checkpoint, INT${bits} in groups of 128`, '', 'GB', quantizedBytes(llama7B, int(bits)) / GB),
      figure(`weight of the blocks, INT${bits} in groups of 128`, '', 'bits', bitsPerWeight(llama7B, int(bits))),
    ]),
    figure('adapters of rank 8 on q and v', '', 'million elements', adapterParameters(llama7B, 8, ['q_proj', 'v_proj']) / 1e6),
    figure('adapters of rank 32 on all Linears but down_proj', '', 'million elements', adapters / 1e6),
    figure('adapters of rank 32 on all Linears', '', 'million elements', onAll / 1e6),
    figure(overhead.of, overhead.over, 'times', overhead.ratio, PUBLISHED.overhead),
    share('the same with down_proj', 'the INT2 checkpoint alone', 2 * onAll, int(2)),
    share('the same with adapters in float32', 'the INT2 checkpoint alone', 4 * adapters, int(2)),
    share('the same with one group an output', 'the INT2 checkpoint alone, one group an output', 2 * adapters, int(2, -1)),
    share('the same with INT4 codes', 'the INT4 checkpoint alone', 2 * adapters, int(4)),
    figure('checkpoint in float16', 'INT2 codes with those float16 adapters', 'times', float16),
  ];
}

/** Figures of the paper's abstract. */
const PUBLISHED = { memory: 5.6, overhead: 1.05 };

/** Fine-tuning adapters of rank 8 on q and v with windows of 512 tokens, blocks computed again for the backward pass. */
function tuning(weights: number, windows: number, activationBytes: number): TrainingMemory {
  return trainingMemory(llama7B, weights, adapterParameters(llama7B, 8, ['q_proj', 'v_proj']), { windows, tokens: 512, activationBytes });
}

const runs: Readonly<Record<string, TrainingMemory>> = {
  'float32 weights': tuning(4 * parameterCount(llama7B), 1, 4),
  'float16 weights': tuning(2 * parameterCount(llama7B), 1, 2),
  'INT4 codes': tuning(quantizedBytes(llama7B, int(4)), 1, 2),
  'INT4 codes, 4 windows': tuning(quantizedBytes(llama7B, int(4)), 4, 2),
  'INT2 codes': tuning(quantizedBytes(llama7B, int(2)), 1, 2),
};

function tuningRows(): ExperimentRow[] {
  const { memory } = publishedRatios(llama7B);
  const [float16, int4] = [runs['float16 weights'], runs['INT4 codes']].map(({ total }) => total + GPU_CONTEXT_BYTES);
  return [
    ...Object.entries(runs).map(([run, { total }]) => figure(`fine-tuning adapters on ${run}`, '', 'GB', (total + GPU_CONTEXT_BYTES) / GB)),
    figure(memory.of, memory.over, 'times', memory.ratio, PUBLISHED.memory),
    figure('the same on float16 weights', memory.over, 'times', float16 / int4),
    figure('cached answers of the dense model, one window of 2048 tokens', '', 'GB', logitBytes(llama7B, 2048) / GB),
    // For the figure; without a quantity they have no line in the table.
    ...Object.entries(runs).flatMap(([run, { weights, adapters, activations }]) =>
      Object.entries({ weights, 'adapters, gradients, moments': adapters, activations, 'GPU context': GPU_CONTEXT_BYTES }).map(
        ([part, bytes]) => ({ run, part, GB: bytes / GB }),
      ),
    ),
  ];
}

async function compute({ rng, signal }: ExperimentContext): Promise<ExperimentRow[]> {
  throwIfAborted(signal);
  return [...checkpointRows(), ...tuningRows(), ...(await countedRows(rng))];
}

/** Of a published figure, which has two digits. */
const CLOSE = 0.02;

function published(name: string, statement: string, value: number): ExperimentClaim {
  return {
    name,
    statement,
    check: (rows) =>
      rows
        .filter((row) => row['published'] === value)
        .map((row): ClaimVerdict => {
          const calculated = numberOf(row['calculated']);
          return {
            subject: `${row['quantity']} over ${row['baseline']}`,
            holds: Math.abs(calculated / value - 1) <= CLOSE,
            evidence: `${calculated.toFixed(3)}, published ${value}`,
          };
        }),
  };
}

const exact: ExperimentClaim = {
  name: 'A5',
  statement: 'The bytes that are calculated for a quantized model with adapters are those of its packed tensors, exactly',
  check(rows) {
    const counted = rows.filter((row) => row['counted'] !== undefined);
    if (counted.length === 0) return [];
    const wrong = counted.filter((row) => row['counted'] !== row['calculated'] || row['stored'] !== row['calculated']);
    const worst = wrong.map((row) => `${row['quantity']}: ${row['calculated']} calculated, ${row['counted']} counted`);
    return [
      {
        subject: `${counted.length} models`,
        holds: wrong.length === 0,
        evidence: [`${counted.length - wrong.length} of ${counted.length} agree to the byte`, ...worst].join('; '),
      },
    ];
  },
};

export const tableMemory: ComputedExperiment = {
  name: 'table-memory',
  title: 'Memory of fine-tuning on packed codes and size of the adapters, LLaMA-7B',
  description:
    'What a model and its fine-tuning take, calculated from shapes: codes, scales, zero points and group indices; embedding, head and norms in float16; adapters in float16 on disk and with gradient and moments (16 bytes an element) in training; ' +
    'activations where blocks are computed again for the backward pass. The published 5.6 times less memory has float32 weights as its baseline: against float16 weights it is 2.9. Both include a GPU context of 0.6 GB. The published 1.05 is the size of adapters of rank 32 ' +
    'beside the INT2 checkpoint. The last lines compare calculation and count on models made up for the purpose, whose tensors are packed as they are in a file.',
  source: 'arXiv 2306.08162, abstract: 5.6 times less memory, 1.05 times the size',
  compute,
  table: { rows: ['quantity', 'baseline', 'unit'], values: ['calculated', 'published', 'counted'] },
  figure: {
    width: 480,
    height: 180,
    transform: [{ filter: 'isValid(datum.GB)' }],
    mark: 'bar',
    encoding: {
      x: { field: 'GB', type: 'quantitative', title: 'GB' },
      y: { field: 'run', type: 'nominal', title: 'fine-tuning adapters on', sort: Object.keys(runs), axis: { labelLimit: 260 } },
      color: { field: 'part', type: 'nominal', title: null },
    },
  },
  claims: [
    published('memory', `Fine-tuning on INT4 codes takes ${PUBLISHED.memory} times less memory than on float32 weights`, PUBLISHED.memory),
    published('size', `INT2 with adapters of rank 32 is ${PUBLISHED.overhead} times the size of INT2 alone`, PUBLISHED.overhead),
    exact,
  ],
};

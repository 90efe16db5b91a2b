// What fine-tuning on packed codes takes and what adapters add, by calculation and by counting.
import { type ComputedExperiment, type ExperimentClaim, type ExperimentContext, type ExperimentRow, throwIfAborted } from '@lowbit/core';
import { publishedClaim } from '@lowbit/core/experiments';
import { countedRows } from './counted.js';
import { bases, modelRows, PUBLISHED, publishedRows } from './memory-rows.js';

async function compute({ rng, signal, models = [] }: ExperimentContext): Promise<ExperimentRow[]> {
  throwIfAborted(signal);
  return [...publishedRows(), ...models.flatMap(modelRows), ...(await countedRows(rng))];
}

/** Of a published figure, which has two digits. */
const CLOSE = 0.02;

const exact: ExperimentClaim = {
  name: 'A5',
  statement: 'The bytes that are calculated for a quantized model with adapters are those of its packed tensors, exactly',
  check(rows) {
    const counted = rows.filter((row) => row['stored'] !== undefined);
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
  title: 'Memory of fine-tuning on packed codes and size of the adapters, for LLaMA-7B and other models',
  description:
    'What a model and its fine-tuning take, calculated from shapes: codes, scales, zero points and group indices; embedding, head and norms in float16; adapters in float16 on disk and with gradient and moments (16 bytes an element) in training; ' +
    'activations where blocks are computed again for the backward pass. The published 5.6 times less memory has float32 weights as its baseline: against float16 weights it is 2.9. Both include a GPU context of 0.6 GB. The published 1.05 is the size of adapters of rank 32 ' +
    'beside the INT2 checkpoint. --model names other models, of which a directory with a config.json is enough: their codes have the largest groups of 128, 64 or 32 that divide all widths and no group indices, their windows are no longer than their context, and what they weigh on disk is counted. ' +
    'Lines of emef are for this engine, with float32 activations; `pnpm bench:emef` measures what it takes. The last lines compare calculation and count on models made up for the purpose, whose tensors are packed as they are in a file.',
  source: 'arXiv 2306.08162, abstract: 5.6 times less memory, 1.05 times the size',
  compute,
  models: ['tiny', 'stories15M'],
  table: { rows: ['config', 'quantity', 'baseline', 'unit'], values: ['calculated', 'published', 'counted'] },
  figure: {
    transform: [{ filter: 'isValid(datum.GB)' }],
    facet: { row: { field: 'config', type: 'nominal', title: null, sort: ['LLaMA-7B'] } },
    spec: {
      width: 480,
      height: 150,
      mark: 'bar',
      encoding: {
        x: { field: 'GB', type: 'quantitative', title: 'GB' },
        y: { field: 'run', type: 'nominal', title: 'fine-tuning adapters on', sort: bases, axis: { labelLimit: 260 } },
        color: { field: 'part', type: 'nominal', title: null },
      },
    },
    resolve: { scale: { x: 'independent' } },
  },
  claims: [
    publishedClaim({
      name: 'memory',
      statement: `Fine-tuning on INT4 codes takes ${PUBLISHED.memory} times less memory than on float32 weights`,
      value: PUBLISHED.memory,
      within: CLOSE,
    }),
    publishedClaim({
      name: 'size',
      statement: `INT2 with adapters of rank 32 is ${PUBLISHED.overhead} times the size of INT2 alone`,
      value: PUBLISHED.overhead,
      within: CLOSE,
    }),
    exact,
  ],
};

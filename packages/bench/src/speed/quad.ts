// bench:quad: QUAD's transform of a 4096-wide Llama block (rank 64, expand) against plain Walsh-Hadamard transforms of the same weights:
// `walshHadamard`, from array to array a panel at a time, and `hadamardTransform`, one graph as the transform itself is.
// With --layer <directory>: errors of a real layer's outputs plain, rotated and decomposed; see quad-layer.ts for what the file holds.
// With --prefill: time to the first token and peak memory of a model as it is, W4A4 and W8A8, simulated and in integers: of `tiny`, of
// --model <name or directory>, or of a Llama of random weights with --width <features>; --batch and --tokens, several times each, for prompts
// of other numbers and lengths, --rounds for more turns. Memory is that of processes that do one thing each.
import { execFileSync } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import {
  type Backend,
  type Block,
  batchesOf,
  createRng,
  readFloats,
  reshape,
  type Tensor,
  type TransformContext,
  tensorsOf,
} from '@lowbit/core';
import { hadamardTransform, planHadamard, walshHadamard } from '@lowbit/linalg';
import { chooseBasis, type ModelSettings, quadOptions, rotatedModel } from '@lowbit/quad';
import { measurePeakMemory } from '../peak-memory.js';
import { median, SIZE, timed } from './layer.js';
import { syntheticLlama } from './llama.js';
import { DAMPENING, layerErrors, layerInputs } from './quad-layer.js';
import { type PrefillMemory, type PrefillSize, prefillMemory } from './quad-prefill.js';
import { benchPrefill } from './quad-prefill-report.js';
import { reportBench } from './report.js';

const RANK = 64;
const INNER = 11008;
const HEADS = 32;
const ROUNDS = 3;
/** Outputs of each weight of a real layer. */
const OUTPUTS = 256;

async function benchTransform(backend: Backend): Promise<void> {
  // A vocabulary of a few tokens: embedding and head are transformed with the block, and should not be in the time.
  const model = syntheticLlama({ width: SIZE, inner: INNER, blocks: 1, heads: HEADS, vocabulary: 32, context: 32 });
  const [block] = model.blocks;
  const options = quadOptions.parse({ rank: RANK, basis: 'random' });
  const nothing = (): void => {};
  const context: TransformContext<unknown> = {
    backend,
    options,
    rng: createRng(0),
    calibration: { ...batchesOf([]), hash: '', description: 'none' },
    progress: nothing,
    log: nothing,
    warn: nothing,
    signal: undefined,
    saved: undefined,
    save: async () => {},
  };
  const settings: ModelSettings = { ...options, ...(await chooseBasis(model, options, context)), keyValues: undefined };

  const weights = await Promise.all(Object.values(block.linears).map((linear) => readFloats(linear.effectiveWeight())));
  const plan = planHadamard(SIZE);
  const walshHadamards = async (): Promise<void> => {
    for (const weight of weights) await walshHadamard(backend, weight, weight.length / SIZE, plan);
  };
  const transform = hadamardTransform(plan);
  const graphs = Object.values(block.linears).map((linear) => {
    const weight = linear.effectiveWeight();
    return transform(reshape(weight, [weight.size / SIZE, SIZE]));
  });
  const fold = async (): Promise<Block> => (await rotatedModel(backend, model, settings, nothing)).blocks[0];

  const rounds: { readonly wht: number; readonly graph: number; readonly fold: number; readonly peak: number }[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const [wht] = await timed(walshHadamards);
    const [graph] = await timed(() => backend.evaluate(graphs));
    const takePeak = measurePeakMemory();
    const [time] = await timed(async () => backend.evaluate(expressionsOf(await fold())));
    rounds.push({ wht, graph, fold: time, peak: takePeak() });
  }
  const folded = await fold();
  const parts: [string, string][] = [];
  for (const [name, linear] of Object.entries(folded.linears)) {
    // Into memory that is there: what fresh pages cost differs from time to time.
    const release = await backend.evaluate(expressionsOf(linear));
    const [time] = await timed(() => backend.evaluate(expressionsOf(linear), { release }));
    parts.push([`  ${name} alone`, `${time.toFixed(0)} ms`]);
  }

  const [first, ...warm] = rounds;
  const of = (pick: (round: (typeof rounds)[number]) => number): number => median(warm.map(pick));
  const largest = largestWithoutWeights(expressionsOf(folded), new Set(tensorsOf(block).values()));
  reportBench(
    'quad',
    [
      ['block', `width ${SIZE}, ${HEADS} heads, MLP ${INNER}, rank ${RANK}, expand`],
      ['Walsh-Hadamard transform of its weights, on arrays', `${of(({ wht }) => wht).toFixed(0)} ms`],
      ['the same as one graph', `${of(({ graph }) => graph).toFixed(0)} ms`],
      ['transform of the block', `${of((round) => round.fold).toFixed(0)} ms`],
      ['first time, compiling', `${first.fold.toFixed(0)} ms`],
      ...parts,
      ['largest tensor that no weight goes into', `${largest} elements; d×(d+r) has ${SIZE * (SIZE + RANK)}`],
      ['peak memory, weights included', `${Math.max(...rounds.map(({ peak }) => peak))} MiB`],
      ['ratio of each round', warm.map((round) => (round.fold / round.wht).toFixed(2)).join(', ')],
      ['ratio to the graph', warm.map((round) => (round.fold / round.graph).toFixed(2)).join(', ')],
    ],
    {
      foldOverWht: of((round) => round.fold / round.wht),
      foldOverGraph: of((round) => round.fold / round.graph),
      foldSeconds: of((round) => round.fold) / 1000,
      largestWithoutWeights: largest,
    },
  );
}

function expressionsOf(tree: Parameters<typeof tensorsOf>[0]): Tensor[] {
  return [...tensorsOf(tree).values()].filter((t) => !t.isLeaf);
}

/** Elements of the largest tensor in the graphs that is computed from leaves other than these weights, or is one. */
function largestWithoutWeights(roots: readonly Tensor[], weights: ReadonlySet<Tensor>): number {
  let largest = 0;
  const seen = new Map<Tensor, boolean>();
  const holdsWeight = (node: Tensor): boolean => {
    const known = seen.get(node);
    if (known !== undefined) return known;
    const { source } = node;
    // Every input is visited, also behind one that holds a weight.
    const found = weights.has(node) || (source.kind === 'expression' && source.inputs.map(holdsWeight).includes(true));
    seen.set(node, found);
    if (!found) largest = Math.max(largest, node.size);
    return found;
  };
  for (const root of roots) holdsWeight(root);
  return largest;
}

async function benchLayer(backend: Backend, directory: string): Promise<void> {
  const file = (await readdir(directory)).find((name) => name.endsWith('.safetensors'));
  if (file === undefined) throw new Error(`${directory}: holds no .safetensors file; name the directory of a layer`);
  const settings = { rank: RANK, bits: [4, 3], quantizers: ['rtn', 'gptq'], outputs: OUTPUTS } as const;
  const rows: [string, string][] = [];
  let [rotatedOverPlain, decomposedOverRotated] = [0, 0];
  for (const input of layerInputs) {
    const errors = await layerErrors(backend, join(directory, file), input, settings);
    for (const { weight, bits, quantizer, plain, rotated, decomposed } of errors) {
      const cell = `${weight.split('.').find((part) => part.endsWith('_proj'))} W${bits}A${bits} ${quantizer}`;
      rows.push([cell, `plain ${plain.toExponential(2)}  rotated ${rotated.toExponential(2)}  decomposed ${decomposed.toExponential(2)}`]);
      rotatedOverPlain = Math.max(rotatedOverPlain, rotated / plain);
      decomposedOverRotated = Math.max(decomposedOverRotated, decomposed / rotated);
    }
  }
  const protocol: [string, string][] = [
    ['layer', `${file}, first ${OUTPUTS} outputs of each weight, rank ${RANK}`],
    ['inputs', 'as the file has them, behind the norm: the directions are those of the normalized stream'],
    ['GPTQ', `dampening ${DAMPENING}, relative to the mean of the diagonal: there is a token of calibration for ten inputs`],
  ];
  reportBench('quad-layer', [...protocol, ...rows], { rotatedOverPlain, decomposedOverRotated });
}

/** MiB at the peak of a process of its own, beyond what it held before. */
function memoryOf(directory: string, execution: string, { batch, tokens }: PrefillSize): number {
  const words = [fileURLToPath(import.meta.url), directory, execution, `${batch}`, `${tokens}`];
  const { before, peak } = JSON.parse(String(execFileSync(process.execPath, [...process.execArgv, ...words]))) as PrefillMemory;
  return peak - before;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    layer: { type: 'string' },
    prefill: { type: 'boolean' },
    model: { type: 'string' },
    width: { type: 'string' },
    batch: { type: 'string', multiple: true },
    tokens: { type: 'string', multiple: true },
    rounds: { type: 'string', default: String(ROUNDS) },
  },
});
// What `memoryOf` starts.
const [forms, execution, ...size] = positionals;
const backend = await createOnnxBackend({ keepMemory: forms === undefined });
if (forms !== undefined) {
  const [batch, tokens] = size.map(Number);
  const memory = await prefillMemory(backend, forms, execution, { batch, tokens });
  process.stdout.write(`${JSON.stringify(memory)}\n`);
} else if (values.prefill) {
  const { model, width, rounds } = values;
  const [batches, lengths] = [values.batch ?? ['1', '4'], values.tokens ?? []].map((list) => list.map(Number));
  await benchPrefill(
    backend,
    { model, width: width === undefined ? undefined : Number(width), batches, lengths, rounds: Number(rounds) },
    memoryOf,
  );
} else if (values.layer === undefined) await benchTransform(backend);
else await benchLayer(backend, values.layer);
await backend.dispose();

// bench:memory: what a run of GPTQ holds in memory, from files to a file. How the peak grows with the number of blocks, when the model on disk
// is larger than it; and one block of a 7B model, its time beside the time that the flops it needs take at the machine's raw rate.
//
// Each run is a process of its own, and its peak the most that was ever resident: reading, quantizing with a store, writing the checkpoint.
// What counts of the large block:
//   activations   2·rows·out·in for every Linear but those of the last group, whose outputs nobody reads; half of the scores and mixtures
//   statistics    2·rows·n² for each group's Gram matrix
//   factors       n³ for each group: a Cholesky factor of the inverse
//   sweeps        out·n² for each Linear: every error fed back into the inputs to its right
// Nothing else counts: reading and writing files, fitting grids, rounding, judging errors, hashing the model for the run's identity.
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { batchesOf, createRng, type Tensor, tensor } from '@lowbit/core';
import { createFileStore, directoryBytes, openCheckpoint, saveCheckpoint } from '@lowbit/formats';
import { gptq } from '@lowbit/gptq';
import { loadModel } from '@lowbit/models';
import { quantize } from '@lowbit/pipeline';
import { linearKinds } from '@lowbit/quant';
import { nearestRounding } from '../nearest-rounding.js';
import { millisecondsAt, RAW_SIZE, rawMeter } from './layer.js';
import { type RandomLlama, writeRandomLlama } from './random-checkpoint.js';
import { reportBench } from './report.js';

interface Setting extends RandomLlama {
  readonly windows: number;
}

/** Activations that stay in memory: fewer than the runs have, so that the rest lies on disk. */
const ACTIVATION_BYTES = 2 ** 25;
/** `pnpm bench:memory small` tries the script out; its figures mean nothing. */
const isSmall = process.argv[2] === 'small';

/** Blocks. */
const [SHALLOW, DEEP] = isSmall ? [2, 4] : [8, 32];

const deepModel = (blocks: number): Setting =>
  isSmall
    ? { width: 256, inner: 768, heads: 4, blocks, vocabulary: 512, window: 64, windows: 8, shardBytes: 2 ** 23 }
    : { width: 1536, inner: 4096, heads: 12, blocks, vocabulary: 2048, window: 256, windows: 32, shardBytes: 2 ** 28 };

const large: Setting = isSmall
  ? { width: 512, inner: 1408, heads: 8, blocks: 1, vocabulary: 512, window: 64, windows: 8, shardBytes: 2 ** 22 }
  : { width: 4096, inner: 11008, heads: 32, blocks: 1, vocabulary: 512, window: 512, windows: 16, shardBytes: 2 ** 27 };

interface Measured {
  /** Resident bytes at the peak. */
  readonly peak: number;
  /** Bytes of the checkpoint that was read. */
  readonly disk: number;
  /** Milliseconds from the open checkpoint to the last block, without the model's hashes. */
  readonly time: number;
  /** Milliseconds of a raw product, before and after. */
  readonly raw: number;
}

/** int32 [1, window] each. */
function randomWindows({ windows, window, vocabulary }: Setting): Tensor[] {
  const rng = createRng(1);
  return Array.from({ length: windows }, (_, i) => tensor(Int32Array.from(rng.at(i).integers(window, vocabulary)), [1, window]));
}

async function measure(directory: string, setting: Setting): Promise<Measured> {
  const source = join(directory, 'model');
  // As the command has it for layers of this width.
  const backend = await createOnnxBackend({ keepMemory: false });
  const aroundRaw = await rawMeter(backend);
  const store = createFileStore(join(directory, 'store'));
  let started = 0;
  let time = 0;
  const { raw } = await aroundRaw(async () => {
    const { model } = await quantize({
      model: await loadModel(await openCheckpoint(source)),
      backend,
      recipe: [gptq({ bits: 4, groupSize: 128 })],
      calibration: { ...batchesOf(randomWindows(setting)), hash: 'random', description: 'random tokens' },
      store,
      kinds: linearKinds,
      memory: ACTIVATION_BYTES,
      nearest: nearestRounding(backend),
      onEvent: ({ type }) => {
        if (type === 'run-start') started = performance.now();
        if (type === 'run-done') time = performance.now() - started;
      },
    });
    await saveCheckpoint(join(directory, 'out'), model, { maxShardBytes: setting.shardBytes });
  });
  const peak = process.resourceUsage().maxRSS * 1024;
  await backend.dispose();
  return { peak, disk: await directoryBytes(source), time, raw };
}

/** Writes a random model, quantizes it in a process of its own, and removes both. */
async function measured(setting: Setting): Promise<Measured> {
  const directory = await mkdtemp(join(tmpdir(), 'lowbit-memory-'));
  try {
    await writeRandomLlama(join(directory, 'model'), setting);
    const script = fileURLToPath(import.meta.url);
    const words = [...process.execArgv, script, 'measure', directory, JSON.stringify(setting)];
    return JSON.parse(String(execFileSync(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] }))) as Measured;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Flops that quantizing one block needs, see above. */
function blockFlops({ width, inner, heads, window, windows }: Setting): number {
  const rows = window * windows;
  const attention = (2 * 2 * rows * heads * (width / heads) * (window + 1)) / 2;
  const activations = 2 * rows * (4 * width * width + 2 * width * inner) + attention;
  const statistics = 2 * rows * (3 * width ** 2 + inner ** 2);
  const factors = 3 * width ** 3 + inner ** 3;
  const sweeps = 4 * width * width ** 2 + 2 * inner * width ** 2 + width * inner ** 2;
  return activations + statistics + factors + sweeps;
}

async function report(): Promise<void> {
  const shallow = await measured(deepModel(SHALLOW));
  const deep = await measured(deepModel(DEEP));
  const big = await measured(large);
  const flops = blockFlops(large);
  const atRate = millisecondsAt(big.raw, flops);
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(1)} s`;
  const ofRun = ({ peak, disk, time }: Measured): string => `peak ${gib(peak)}, model on disk ${gib(disk)}, ${seconds(time)}`;
  const shapeOf = ({ width, inner, heads, windows, window }: Setting): string =>
    `width ${width}, inner ${inner}, ${heads} heads; ${windows} windows of ${window} tokens, GPTQ with 4 bits in groups of 128`;
  reportBench(
    'memory',
    [
      ['blocks', shapeOf(deepModel(DEEP))],
      [`  ${SHALLOW} of them`, ofRun(shallow)],
      [`  ${DEEP} of them`, ofRun(deep)],
      ['one large block', shapeOf(large)],
      ['  run', ofRun(big)],
      ['  needed', `${(flops / 1e12).toFixed(2)} TFLOP, ${seconds(atRate)} at the raw rate`],
      [`  raw ${RAW_SIZE}-cube matmul`, `${((2 * RAW_SIZE ** 3) / big.raw / 1e6).toFixed(0)} GFLOP/s`],
    ],
    {
      rssRatio: deep.peak / shallow.peak,
      bigBlockPeakGiB: big.peak / 2 ** 30,
      bigBlockTimeRatio: big.time / atRate,
      diskOverPeak: deep.disk / deep.peak,
    },
  );
}

if (process.argv[2] === 'measure') {
  const [, directory, setting] = process.argv.slice(2);
  process.stdout.write(JSON.stringify(await measure(directory, JSON.parse(setting) as Setting)));
} else await report();

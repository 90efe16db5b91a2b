// bench:lrec: steps of LREC's training, against the time that the matrix products which such a step needs take at the machine's raw rate.
// What such a step needs: lrec-steps.ts.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { median, millisecondsAt, RAW_SIZE, rawMeter } from './layer.js';
import type { LlamaShape } from './llama.js';
import { measureLrec } from './lrec-steps.js';
import { reportBench } from './report.js';

const WINDOW = 256;
const WINDOWS = 2;
/** Steps that are timed, after one that compiles. */
const STEPS = 4;

const small: LlamaShape = { width: 288, inner: 768, blocks: 6, heads: 6, vocabulary: 32000, context: WINDOW };
const large: LlamaShape = { width: 768, inner: 2048, blocks: 6, heads: 12, vocabulary: 32000, context: WINDOW };

const backend = await createOnnxBackend();
const aroundRaw = await rawMeter(backend);
const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(2)} s`;

/** Rows of the table, and figures. */
async function report(name: string, shape: LlamaShape) {
  const raws: number[] = [];
  const { needed, again, times, first, overhead } = await measureLrec(backend, shape, { windows: WINDOWS, steps: STEPS }, async () => {
    raws.push((await aroundRaw(async () => undefined)).raw);
  });
  // Of each step, those before and after it.
  const rawOf = times.map((_, i) => (raws[i] + raws[i + 1]) / 2);
  const shares = times.map((time, i) => millisecondsAt(rawOf[i], needed) / time);
  const time = median(times);
  const rawRate = (2 * RAW_SIZE ** 3) / median(rawOf) / 1e6;
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

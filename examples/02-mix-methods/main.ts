// Methods of several packages in one recipe: 2-bit codes by decoupleQ, a low-rank correction in closed form, and training from there.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createRng, type Recipe } from '@lowbit/core';
import { loadTokenizer, sampleCalibration, sotuCorpus } from '@lowbit/data';
import { decoupleq } from '@lowbit/decoupleq';
import { textEvaluator, windowsByProtocol } from '@lowbit/eval';
import { openCheckpoint } from '@lowbit/formats';
import { lowRankCorrection, lrec } from '@lowbit/int2-lrec';
import { loadModel } from '@lowbit/models';
import { quantize } from '@lowbit/pipeline';
import { tinyLlamaDirectory } from '@lowbit/tiny-llama';

const backend = await createOnnxBackend();
const dense = await loadModel(await openCheckpoint(tinyLlamaDirectory()));
const tokenizer = await loadTokenizer(tinyLlamaDirectory());
const calibration = sampleCalibration(await sotuCorpus('train'), tokenizer, { windows: 16, window: 256, rng: createRng(0) });
const heldOut = windowsByProtocol('window-256', await sotuCorpus('held-out'), tokenizer, { limit: 12 });
const evaluator = textEvaluator(heldOut);

/** How far the answers of the quantized model are from those of the dense one, in nats per token. */
async function divergenceAfter(recipe: Recipe): Promise<number> {
  const { model, bitsPerWeight } = await quantize({ model: dense, backend, recipe, calibration: calibration.batches, seed: 0 });
  const scores = await evaluator.evaluate(model, { backend, reference: dense });
  const kl = scores.find((score) => score.evaluator === 'kl')?.value ?? Number.NaN;
  const steps = recipe.map(({ method }) => method.name).join(' + ');
  console.log(`${steps}: ${bitsPerWeight.toFixed(2)} bits per weight, KL ${kl.toFixed(4)}`);
  return kl;
}

// Codes, scales and offsets of each Linear in turn; small settings, so that this takes seconds.
const codes = decoupleq({ bits: 2, groupSize: 32, iterations: 2, codeStep: 'gptq', blockEpochs: 0 });
// Adapters of 5 % of the checkpoint: the best that can be said of each Linear's error alone.
const correction = lowRankCorrection({ form: 'qera-exact', overhead: 0.05 });
// The same adapters, trained together towards the dense model's answers.
const training = lrec({ maxTokens: 6_000, batchWindows: 1, learningRate: 2e-3 });

const figures = {
  codes: await divergenceAfter([codes]),
  corrected: await divergenceAfter([codes, correction]),
  trained: await divergenceAfter([codes, correction, training]),
};
await backend.dispose();

// The check compares these with expected.json.
console.log(JSON.stringify(figures));

// A first run: quantize the embedded model to 3 bits by two methods, judge both on held-out text, and save the better one.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createRng, type Model, type Recipe } from '@lowbit/core';
import { describeCalibration, loadTokenizer, sampleCalibration, sotuCorpus } from '@lowbit/data';
import { textEvaluator, windowsByProtocol } from '@lowbit/eval';
import { directoryBytes, openCheckpoint, saveCheckpoint } from '@lowbit/formats';
import { gptq } from '@lowbit/gptq';
import { loadModel } from '@lowbit/models';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { tinyLlamaDirectory } from '@lowbit/tiny-llama';

// The engine. Everything below is handed this object; there is no global one.
const backend = await createOnnxBackend();

// The dense model. Its weights stay in the file until something touches them.
const checkpoint = await openCheckpoint(tinyLlamaDirectory());
const dense = await loadModel(checkpoint);
const tokenizer = await loadTokenizer(tinyLlamaDirectory());

// Text to calibrate on and, from other speeches, text to judge by.
const calibration = sampleCalibration(await sotuCorpus('train'), tokenizer, { windows: 64, window: 256, rng: createRng(0) });
console.log(describeCalibration(calibration.report));
const heldOut = windowsByProtocol('window-256', await sotuCorpus('held-out'), tokenizer, { limit: 32 });
const evaluator = textEvaluator(heldOut);

async function perplexityOf(model: Model): Promise<number> {
  const scores = await evaluator.evaluate(model, { backend, reference: dense });
  return scores.find((score) => score.evaluator === 'perplexity')?.value ?? Number.NaN;
}

async function run(name: string, recipe: Recipe): Promise<{ model: Model; perplexity: number; bitsPerWeight: number }> {
  const { model, bitsPerWeight } = await quantize({ model: dense, backend, recipe, calibration: calibration.batches, seed: 0 });
  const perplexity = await perplexityOf(model);
  console.log(`${name}: ${bitsPerWeight.toFixed(2)} bits per weight, perplexity ${perplexity.toFixed(3)}`);
  return { model, perplexity, bitsPerWeight };
}

const densePerplexity = await perplexityOf(dense);
console.log(`dense: perplexity ${densePerplexity.toFixed(3)}`);
// A recipe is a list of steps; a step is a method called with its options.
const nearest = await run('rtn', [rtn({ bits: 3, groupSize: 32 })]);
const recipe = [gptq({ bits: 3, groupSize: 32 })];
const second = await run('gptq', recipe);

// What is saved can be opened like any other checkpoint, and gives the same numbers.
const directory = await mkdtemp(join(tmpdir(), 'lowbit-first-run-'));
await saveCheckpoint(directory, second.model, { recipe, seed: 0, sideFiles: checkpoint.sideFiles });
const reopened = await loadModel(await openCheckpoint(directory));
const reopenedPerplexity = await perplexityOf(reopened);
const mebibytes = (await directoryBytes(directory)) / 2 ** 20;
console.log(`saved: ${mebibytes.toFixed(2)} MiB, perplexity after opening it again ${reopenedPerplexity.toFixed(3)}`);
await rm(directory, { recursive: true });
await backend.dispose();

// The check compares these with expected.json.
const figures = {
  densePerplexity,
  rtnPerplexity: nearest.perplexity,
  gptqPerplexity: second.perplexity,
  reopenedPerplexity,
  bitsPerWeight: second.bitsPerWeight,
  mebibytes,
};
console.log(JSON.stringify(figures));

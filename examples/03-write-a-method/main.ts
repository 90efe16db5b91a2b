// A method of one's own in recipes: against rounding to nearest, and mixed with GPTQ.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createRng, type Recipe } from '@lowbit/core';
import { loadTokenizer, sampleCalibration, sotuCorpus } from '@lowbit/data';
import { textEvaluator, windowsByProtocol } from '@lowbit/eval';
import { openCheckpoint } from '@lowbit/formats';
import { gptq } from '@lowbit/gptq';
import { loadModel } from '@lowbit/models';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { tinyLlamaDirectory } from '@lowbit/tiny-llama';
import importance from './src/index.js';

const backend = await createOnnxBackend();
const dense = await loadModel(await openCheckpoint(tinyLlamaDirectory()));
const tokenizer = await loadTokenizer(tinyLlamaDirectory());
const calibration = sampleCalibration(await sotuCorpus('train'), tokenizer, { windows: 8, window: 256, rng: createRng(0) });
const evaluator = textEvaluator(windowsByProtocol('window-256', await sotuCorpus('held-out'), tokenizer, { limit: 8 }));

/** Nats a token that quantizing adds. */
async function addedLoss(name: string, recipe: Recipe): Promise<number> {
  const { model } = await quantize({ model: dense, backend, recipe, calibration: calibration.batches, seed: 0 });
  const scores = await evaluator.evaluate(model, { backend, reference: dense });
  const value = scores.find(({ evaluator }) => evaluator === 'loss-gap')?.value ?? Number.NaN;
  console.log(`${name}: ${value.toFixed(4)} nats a token added`);
  return value;
}

const codes = { bits: 3, groupSize: 32 };
const figures = {
  rtn: await addedLoss('rtn', [rtn(codes)]),
  importance: await addedLoss('importance', [importance(codes)]),
  mixed: await addedLoss('importance on attention, gptq on the rest', [
    importance({ ...codes, targets: ['**.self_attn.*'] }),
    gptq({ ...codes, targets: ['**.mlp.*'] }),
  ]),
};
await backend.dispose();

// The check compares these with expected.json.
console.log(JSON.stringify(figures));

// A run that is stopped after some blocks, goes on from what it left, and ends with the bytes of one that was never stopped.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createRng, type RunEvent } from '@lowbit/core';
import { loadTokenizer, sampleCalibration, sotuCorpus } from '@lowbit/data';
import { createFileStore, fileSha256, openCheckpoint, saveCheckpoint } from '@lowbit/formats';
import { gptq } from '@lowbit/gptq';
import { loadModel } from '@lowbit/models';
import { holdsRun, quantize } from '@lowbit/pipeline';
import { linearKinds } from '@lowbit/quant';
import { tinyLlamaDirectory } from '@lowbit/tiny-llama';

const backend = await createOnnxBackend();
const dense = await loadModel(await openCheckpoint(tinyLlamaDirectory()));
const tokenizer = await loadTokenizer(tinyLlamaDirectory());
const calibration = sampleCalibration(await sotuCorpus('train'), tokenizer, { windows: 8, window: 128, rng: createRng(0) });
const folder = await mkdtemp(join(tmpdir(), 'lowbit-resume-'));
const store = createFileStore(join(folder, 'run'));

/** One run with everything that decides its bytes; `store` and what follows it decide none. */
const run = (signal?: AbortSignal, onEvent?: (event: RunEvent) => void, kept = true) =>
  quantize({
    model: dense,
    backend,
    recipe: [gptq({ bits: 3, groupSize: 32 })],
    calibration: calibration.batches,
    seed: 0,
    ...(kept && { store, kinds: linearKinds, memory: 2 ** 20 }),
    signal,
    onEvent,
  });

// The store begins empty. Ctrl-C would abort the same signal.
const stop = new AbortController();
let stoppedAfter = 0;
await run(stop.signal, (event) => {
  if (event.type !== 'block-done' || event.done < 2) return;
  stoppedAfter = event.done;
  stop.abort();
}).catch((error: Error) => console.log(error.message));
console.log(`stopped after ${stoppedAfter} of ${dense.blocks.length} blocks; the store holds a run: ${await holdsRun(store)}`);

let reused = 0;
const resumed = await run(undefined, (event) => {
  if (event.type === 'log' && event.record['reusedFromStore'] === true) reused++;
});
console.log(`went on with ${reused} blocks of the store`);
await saveCheckpoint(join(folder, 'resumed'), resumed.model);

const whole = await run(undefined, undefined, false);
await saveCheckpoint(join(folder, 'whole'), whole.model);
const hashes = await Promise.all(['resumed', 'whole'].map((name) => fileSha256(join(folder, name, 'model.safetensors'))));
console.log(`resumed ${hashes[0]}\nwhole   ${hashes[1]}`);

// Both are saved: nothing reads from the store any more.
await store.clear();
await rm(folder, { recursive: true });
await backend.dispose();

// The check compares these with expected.json.
console.log(JSON.stringify({ isIdentical: Number(hashes[0] === hashes[1]), stoppedAfter, reused }));

// A run that kills its own process at the n-th thing it does. As a program: killed-run.ts <store> <output> <n>; 0 lets it come to its end.
import { writeFile } from 'node:fs/promises';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, lazyTensor, type Recipe, read, type Store, type StoreEntry, tensorsOf } from '@lowbit/core';
import { createFileStore, storedTensor, writeSafetensors } from '@lowbit/formats';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { quantize } from '../src/index.js';
import { adapted } from './methods/adapt.js';
import { testKinds } from './methods/linears.js';
import { refined } from './methods/refine.js';
import { rotate } from './methods/rotate.js';
import { searched } from './methods/round.js';

/** Every kind of stage: a transform, a walk that asks for dense targets, another over a part of the Linears, a finetune that saves its state. */
export const recipe: Recipe = [
  rotate({ extra: 16 }),
  refined({ bits: 3, steps: 1, target: 'dense', targets: ['**.mlp.*'] }),
  searched({ bits: 3, targets: ['**.self_attn.*', '!**.1.self_attn.v_proj'] }),
  adapted({ rank: 1, steps: 1, epochs: 3 }),
];

interface RunSettings {
  /** Undefined: nothing is kept. */
  readonly store: Store | undefined;
  /** A safetensors file of all tensors. */
  readonly output: string;
  /** Called between any two things that are done. */
  readonly tick: () => void;
}

/** @returns blocks and models that were there already. */
export async function runToFile({ store, output, tick }: RunSettings): Promise<number> {
  let reused = 0;
  const backend = await createOnnxBackend({ threads: 1 });
  const model = createToyModel({ seed: 1, blockCount: 3, biases: true });
  const calibration = createToyTokens({ seed: 2, batchCount: 3, batchSize: 1, tokens: 8 });
  const made = await quantize({
    model,
    backend: tickingBackend(backend, tick),
    recipe,
    calibration,
    seed: 3,
    store: store && tickingStore(store, tick),
    kinds: testKinds,
    onEvent: (event) => {
      if (event.type === 'log' && event.record['reusedFromStore'] === true) reused++;
    },
    // One batch stays in memory, the others lie in the store.
    ...(store && { memory: 2048 }),
  });
  const tensors = [...tensorsOf(made.model)].map(([name, t]) => storedTensor(name, t));
  await writeSafetensors(output, tensors);
  await backend.dispose();
  return reused;
}

function tickingBackend(backend: Backend, tick: () => void): Backend {
  return {
    name: backend.name,
    fingerprint: backend.fingerprint,
    statistics: backend.statistics,
    evaluate(tensors, options) {
      tick();
      return backend.evaluate(tensors, options);
    },
    dispose: () => backend.dispose(),
  };
}

/** Before, within and after every write: an entry is written tensor by tensor. */
function tickingStore(store: Store, tick: () => void): Store {
  const ticking = ({ metadata, tensors }: StoreEntry): StoreEntry => {
    const lazy = Object.entries(tensors).map(([name, t]) => {
      const load = async () => {
        tick();
        return read(t);
      };
      return [name, lazyTensor(t.shape, t.dtype, load)] as const;
    });
    return { metadata, tensors: Object.fromEntries(lazy) };
  };
  return {
    get: (key) => store.get(key),
    async put(key, entry) {
      tick();
      await store.put(key, ticking(entry));
      tick();
    },
    async delete(key) {
      await store.delete(key);
      tick();
    },
  };
}

const [script, directory, output, killAt] = process.argv.slice(1);
if (script?.endsWith('killed-run.ts')) {
  let ticks = 0;
  const tick = (): void => {
    if (++ticks === Number(killAt)) process.kill(process.pid, 'SIGKILL');
  };
  const reused = await runToFile({ store: createFileStore(directory), output, tick });
  await writeFile(`${output}.reused`, String(reused));
}

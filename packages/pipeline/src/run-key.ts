// The fingerprint of a run: everything that decides which weights come out.
import { createHash } from 'node:crypto';
import {
  type Backend,
  type FinetuneTask,
  LowbitError,
  type Model,
  read,
  type Step,
  type TokenBatches,
  tensorsOf,
  throwIfAborted,
} from '@lowbit/core';
import type { Propagation } from './run.js';
import { describeLinear } from './stored-block.js';

/** Raised when the runner would make other weights of the same inputs. */
const RUNNER_VERSION = 1;

export interface RunKeyInputs {
  readonly model: Model;
  readonly backend: Backend;
  readonly recipe: readonly Step[];
  readonly calibration: TokenBatches;
  readonly task?: FinetuneTask | undefined;
  readonly seed: number;
  readonly propagate: Propagation;
  readonly signal: AbortSignal | undefined;
}

/**
 * sha256 over the model (names, types, shapes and elements of all tensors: it is read once from end to end), the calibration data, the
 * task, the seed, the engine with its threads, and every step.
 * @throws OPTIONS_NOT_PLAIN when a step's options hold something that has no canonical text.
 */
export async function computeRunKey(inputs: RunKeyInputs): Promise<string> {
  const { model, backend, recipe, calibration, task, seed, propagate, signal } = inputs;
  const hash = createHash('sha256');
  const head = {
    runner: RUNNER_VERSION,
    config: model.config,
    calibration: calibration.hash,
    task: task?.hash,
    seed,
    backend: backend.fingerprint,
    propagate,
  };
  hash.update(canonical(head, 'run'));
  for (const [index, step] of recipe.entries()) hash.update(canonical(step, `step ${index} (${step.method.name})`));
  for (const block of model.blocks) {
    for (const [name, linear] of Object.entries(block.linears)) hash.update(canonical(describeLinear(linear), `${block.path}.${name}`));
    if (block.keyValues) hash.update(canonical({ keyValues: block.keyValues }, block.path));
  }
  for (const [name, t] of tensorsOf(model)) {
    throwIfAborted(signal);
    const [leaf] = t.isLeaf ? [t] : await backend.evaluate([t]);
    const data = await read(leaf);
    hash.update(`${name}|${t.dtype}|${t.shape.join('x')}|`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}

function describeStep({ method, options, targets, overrides }: Step): unknown {
  return { method: method.name, version: method.version, options, targets, overrides };
}

function isStep(value: object): value is Step {
  return 'method' in value && typeof value.method === 'object' && 'options' in value && 'targets' in value && 'overrides' in value;
}

/** JSON with sorted keys. A step among the options (a method that hands its layers to another) counts as its name, version and options. */
function canonical(value: unknown, where: string): string {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return JSON.stringify(value);
  if (typeof value === 'number') return Number.isFinite(value) ? JSON.stringify(value) : `#${value}`;
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return canonical(Array.from(value as unknown as ArrayLike<number>), where);
  if (Array.isArray(value)) return `[${value.map((item: unknown) => canonical(item ?? null, where)).join(',')}]`;
  if (typeof value === 'object') {
    if (isStep(value)) return canonical(describeStep(value), where);
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null) {
      const entries = Object.entries(value).filter(([, item]) => item !== undefined);
      return `{${entries
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, item]) => `${JSON.stringify(name)}:${canonical(item, `${where}, ${name}`)}`)
        .join(',')}}`;
    }
  }
  throw new LowbitError(
    'OPTIONS_NOT_PLAIN',
    `${where}: a ${typeof value} has no canonical text, which the key of a stored run needs; use plain data or run without a store`,
  );
}

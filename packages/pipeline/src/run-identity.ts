// What identifies a run: everything that decides which weights come out, readable, and its fingerprint.
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
import { requireFinite } from './finite.js';
import type { Propagation } from './run.js';
import { describeLinear } from './stored-parts.js';

/** Raised when the runner would make other weights of the same inputs, or keeps other entries of them. */
const RUNNER_VERSION = 3;

/** Differences listed in a message before it says how many more there are. */
const LISTED = 6;

/** Characters of a value that a message shows. */
const SHOWN = 60;

type Plain = string | number | boolean | null | readonly Plain[] | { readonly [name: string]: Plain };

export interface RunIdentity {
  /** sha256 of `parts`. */
  readonly key: string;
  /** What decides the weights. Data, tasks and tensors are there as hashes. */
  readonly parts: { readonly [name: string]: Plain };
  /** What people call the data and the task, for messages. */
  readonly labels: Readonly<Record<string, string>>;
}

export interface RunInputs {
  readonly model: Model;
  readonly backend: Backend;
  readonly recipe: readonly Step[];
  readonly calibration: TokenBatches;
  readonly task?: FinetuneTask | undefined;
  readonly seed: number;
  readonly propagate: Propagation;
  readonly minTokens: number;
  readonly versions: Readonly<Record<string, string>>;
  readonly signal: AbortSignal | undefined;
}

/**
 * The model (names, types, shapes and elements of all tensors: it is read once from end to end), the calibration data, the task, the
 * seed, the engine with its threads, the versions of the packages, and every step.
 * @throws WEIGHT_NOT_FINITE naming a tensor that holds NaN or Infinity; OPTIONS_NOT_PLAIN when a step's options hold something that has no canonical text.
 */
export async function identifyRun(inputs: RunInputs): Promise<RunIdentity> {
  const { model, backend, recipe, calibration, task, seed, propagate, minTokens, versions } = inputs;
  const layers: Record<string, unknown> = {};
  for (const block of model.blocks) {
    for (const [name, linear] of Object.entries(block.linears)) layers[`${block.path}.${name}`] = describeLinear(linear);
    if (block.keyValues) layers[block.path] = { keyValues: block.keyValues };
  }
  const parts = {
    runner: RUNNER_VERSION,
    engine: backend.fingerprint,
    seed,
    propagate,
    minTokens,
    versions,
    calibration: calibration.hash,
    // The hash is over tokens in a row: cut otherwise they give other sums.
    batches: calibration.length === 0 ? [] : [calibration.length, ...(await calibration.at(0)).shape],
    task: task?.hash ?? null,
    steps: recipe.map((step, index) => plain(step, `step ${index} (${step.method.name})`)),
    config: plain(model.config, 'config'),
    layers: plain(layers, 'layers'),
    tensors: await hashTensors(inputs),
  };
  const labels = { calibration: calibration.description, ...(task && { task: task.description }) };
  return { key: createHash('sha256').update(JSON.stringify(parts)).digest('hex'), parts, labels };
}

async function hashTensors({ model, backend, signal }: RunInputs): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  for (const [name, t] of tensorsOf(model)) {
    throwIfAborted(signal);
    const [leaf] = t.isLeaf ? [t] : await backend.evaluate([t]);
    const data = await read(leaf);
    requireFinite(name, t.shape, data);
    const hash = createHash('sha256')
      .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
      .digest('hex');
    hashes[name] = `${t.dtype} ${t.shape.join('x')} ${hash}`;
  }
  return hashes;
}

function describeStep({ method, options, targets, overrides }: Step): unknown {
  return { method: method.name, version: method.version, options, targets, overrides };
}

function isStep(value: object): value is Step {
  return 'method' in value && typeof value.method === 'object' && 'options' in value && 'targets' in value && 'overrides' in value;
}

/** A value as JSON holds it, names sorted. A step among the options (a method that hands its layers to another) counts as its name, version and options. */
function plain(value: unknown, where: string): Plain {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number') return Number.isFinite(value) ? value : { number: String(value) };
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return plain(Array.from(value as unknown as ArrayLike<number>), where);
  if (Array.isArray(value)) return value.map((item: unknown) => plain(item ?? null, where));
  if (typeof value === 'object') {
    if (isStep(value)) return plain(describeStep(value), where);
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null) {
      const entries = Object.entries(value).filter(([, item]) => item !== undefined);
      return Object.fromEntries(
        entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, item]) => [name, plain(item, `${where}, ${name}`)]),
      );
    }
  }
  throw new LowbitError(
    'OPTIONS_NOT_PLAIN',
    `${where}: a ${typeof value} has no canonical text, which the key of a stored run needs; use plain data or run without a store`,
  );
}

/** What differs between a run in a store and this one, in words; the first few. */
export function differences(before: RunIdentity, now: RunIdentity): string[] {
  const found: string[] = [];
  compare(before.parts, now.parts, [], (path, was, is) => void found.push(describe(path, was, is, before, now)));
  const more = found.length - LISTED;
  return [...found.slice(0, LISTED), ...(more > 0 ? [`and ${more} more differences`] : [])];
}

type OnDifference = (path: readonly string[], was: Plain | undefined, is: Plain | undefined) => void;

function compare(was: Plain | undefined, is: Plain | undefined, path: readonly string[], onDifference: OnDifference): void {
  if (JSON.stringify(was) === JSON.stringify(is)) return;
  if (!isTree(was) || !isTree(is)) {
    onDifference(path, was, is);
    return;
  }
  for (const name of new Set([...Object.keys(was), ...Object.keys(is)])) compare(was[name], is[name], [...path, name], onDifference);
}

function isTree(value: Plain | undefined): value is { readonly [name: string]: Plain } {
  return typeof value === 'object' && value !== null;
}

function describe(path: readonly string[], was: Plain | undefined, is: Plain | undefined, before: RunIdentity, now: RunIdentity): string {
  const [part, ...rest] = path;
  if (part === 'calibration' || part === 'task') {
    const [old, current] = [before.labels[part] ?? 'none', now.labels[part] ?? 'none'];
    return `${part} was ${old} and is ${current}${old === current ? ' with other contents' : ''}`;
  }
  if (part === 'tensors' && was !== undefined && is !== undefined) return `${rest.join('.')} has other elements`;
  const name = part === 'steps' || part === 'tensors' || part === 'layers' ? rest.join('.') : path.join('.');
  const where = part === 'steps' ? `step ${name.replace('.', ' ')}` : name;
  return `${where} was ${show(was)} and is ${show(is)}`;
}

function show(value: Plain | undefined): string {
  if (value === undefined) return 'not there';
  const text = JSON.stringify(value);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}

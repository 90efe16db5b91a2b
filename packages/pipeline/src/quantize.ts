// Runs a recipe over a model: order, calibration streams, events, cancellation and determinism. It knows no method by name.
import {
  type Backend,
  type Block,
  createRng,
  DenseLinear,
  type FinetuneTask,
  type LinearKinds,
  LowbitError,
  type MethodDefinition,
  type Model,
  quantizablePart,
  type Recipe,
  type RunEvent,
  type Store,
  type TokenBatches,
} from '@lowbit/core';
import { quantizeBlocks } from './block-loop.js';
import { lastHidden, meanDivergence } from './divergence.js';
import { createEmitter } from './emitter.js';
import { checkWeights } from './finite.js';
import { judgeModel } from './judge-linears.js';
import { checkStep, linearShapes, type PlannedStep, planRecipe, planStep } from './plan.js';
import { requireReference } from './quantize-linears.js';
import { evaluateTree, hasExpressions, resolveTree } from './resolve.js';
import { inStage, interruptible, methodContext, type NearestRounding, type Propagation, type Run } from './run.js';
import { identifyRun } from './run-identity.js';
import { RunStorage } from './run-storage.js';
import { restoreTuned, storeTuned } from './stored-model.js';
import { aimOf, checkTask } from './task.js';

export interface QuantizeOptions {
  readonly model: Model;
  readonly backend: Backend;
  readonly recipe: Recipe;
  /** Token windows that activations, statistics and losses are computed on. May be left out when no step needs data. */
  readonly calibration?: TokenBatches | undefined;
  /**
   * What the first steps of the recipe made of `model` in another run with the same calibration data, seed and backend: the run begins
   * after them and ends with the same bytes. Only where `canBeginAfter` says so.
   */
  readonly done?: { readonly steps: number; readonly model: Model } | undefined;
  /** What steps whose aim is a task are tuned for. */
  readonly task?: FinetuneTask | undefined;
  /** Any integer from 0 to 2^53 − 1; every draw of the run is addressed below it. Default: 0. */
  readonly seed?: number | undefined;
  /**
   * What feeds the next block: 'quantized', the outputs of the block as it has become, so that later blocks compensate for earlier
   * ones; 'dense', those of the block as it was. Default: 'quantized'.
   */
  readonly propagate?: Propagation | undefined;
  /**
   * Where finished blocks go, and the activations that left the last of them; the model that comes back reads them from there. A store
   * holds one run. The model is then read once more, from end to end, to tell whether it is the same.
   */
  readonly store?: Store | undefined;
  /** Restorers of quantized Linears (`linearKinds` of @lowbit/quant): with them, a run goes on after the blocks that the store has. */
  readonly kinds?: LinearKinds | undefined;
  /** Bytes of activations that stay in memory; what is more lies in the store, which has to be given then. Default: no limit. */
  readonly memory?: number | undefined;
  /** Versions of the packages that compute, by name: a run that others began is not gone on with. */
  readonly versions?: Readonly<Record<string, string>> | undefined;
  /** Rounds a Linear to nearest in the representation a method chose for it, to warn of methods that do no better. */
  readonly nearest?: NearestRounding | undefined;
  /**
   * A Linear that fewer calibration tokens reach is rounded to nearest, with a warning, in the representation that its method chose
   * (`nearest` rounds it). Default: 0.5 % of the calibration's tokens.
   */
  readonly minTokens?: number | undefined;
  readonly onEvent?: ((event: RunEvent) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface QuantizeResult {
  readonly model: Model;
  /** Bits that the blocks' Linears store, scales, offsets and adapters counted, for each weight they had before the run. */
  readonly bitsPerWeight: number;
  readonly warnings: readonly Extract<RunEvent, { type: 'warning' }>[];
  readonly milliseconds: number;
  /** sha256 of everything that decided the weights; undefined without a store. */
  readonly runKey: string | undefined;
  /** What `onEvent` threw first, if it threw; the run went on. */
  readonly listenerFailure: unknown;
}

/** Stands in when no data was given: empty, and clear about it when a method asks for a batch. */
const noCalibration: TokenBatches = {
  length: 0,
  hash: '',
  description: 'none',
  at: () => Promise.reject(new LowbitError('CALIBRATION_EMPTY', 'no calibration data was given; pass calibration batches')),
};

/**
 * Applies the steps of a recipe in order and returns the new model; the given one stays as it is.
 *
 * Same model, recipe, calibration data, seed and backend with the same number of threads: same bytes.
 *
 * @throws RECIPE_EMPTY, RECIPE_STEP, RECIPE_DONE, TARGETS_UNUSED, TARGETS_EMPTY, OVERRIDES_EMPTY, GLOB_INVALID, SEED, TASK_UNUSED, TASK_MODEL, and what `method.check` and
 *   `method.checkModel` throw, and MEMORY_STORE, before any weight is read; STORE_RUN when the store holds another run, naming what differs; ABORTED when the signal is; CALIBRATION_EMPTY; WEIGHT_NOT_FINITE and NOT_FINITE, naming what holds NaN or Infinity; METHOD_SHAPE; METHOD_FAILED around foreign errors.
 */
export async function quantize(options: QuantizeOptions): Promise<QuantizeResult> {
  const { model: given, recipe, calibration = noCalibration, task, seed = 0 } = options;
  const { propagate = 'quantized', store, kinds, memory = Number.POSITIVE_INFINITY, versions = {}, nearest, signal } = options;
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new LowbitError('SEED', `quantize: seed must be an integer from 0 to 2^53 − 1, got ${seed}`);
  if (memory !== Number.POSITIVE_INFINITY && !store)
    throw new LowbitError('MEMORY_STORE', 'quantize: a limit of memory for activations needs a store for the rest; pass one');
  const started = performance.now();
  const plan = planRecipe(recipe, given);
  if (options.done) checkDone(recipe, options.done.steps);
  if (task) checkTask(recipe, task, given);
  const backend = interruptible(options.backend, signal);
  const minTokens = options.minTokens ?? (await leastTokens(calibration));
  // Either reads every weight once and refuses what is not finite: after hours of work it would be late.
  if (!store) await checkWeights(given, signal);
  const inputs = { model: given, backend, recipe, calibration, task, seed, propagate, minTokens, versions, signal };
  const identity = store && (await identifyRun(inputs));
  const emitter = createEmitter(options.onEvent);
  const run: Run = {
    backend,
    rng: createRng(seed),
    calibration,
    task,
    propagate,
    signal,
    nearest,
    minTokens,
    storage: store && identity && (await RunStorage.open(store, identity, kinds)),
    memory,
    emit: emitter.emit,
    told: emitter.told,
  };
  const linears = plan.reduce((total, { step, options: targeted }) => total + (step.method.quantizeLinear ? targeted.size : 0), 0);
  run.emit({ type: 'run-start', steps: recipe.length, blocks: given.blocks.length, linears });
  const { done = { steps: 0, model: given } } = options;
  let state: RunState = { model: done.model, dense: given };
  for (const [i, planned] of plan.entries()) {
    if (i >= done.steps) state = await runStep(run, planned, state, given, plan[i + 1]?.step.method);
  }
  const { model } = state;
  const milliseconds = performance.now() - started;
  run.emit({ type: 'run-done', milliseconds });
  const { warnings, failure } = emitter;
  return { model, bitsPerWeight: bitsPerWeight(given, model), warnings, milliseconds, runKey: identity?.key, listenerFailure: failure };
}

/** Share of the calibration's tokens below which a Linear's statistics say nothing. */
const LEAST_SHARE = 0.005;

async function leastTokens(calibration: TokenBatches): Promise<number> {
  return calibration.length === 0 ? 0 : Math.ceil(LEAST_SHARE * calibration.length * (await calibration.at(0)).size);
}

/** @throws RECIPE_DONE */
function checkDone(recipe: Recipe, steps: number): void {
  if (canBeginAfter(recipe, steps)) return;
  const reason = 'what they made of the dense model, or how many they are, is not known';
  throw new LowbitError(
    'RECIPE_DONE',
    `quantize: cannot begin after ${steps} of ${recipe.length} steps, ${reason}; run the recipe from its first step`,
  );
}

/** Whether a run may begin with the model that the first steps of a recipe made: they left the dense one, with which the others compare, as it was. */
export function canBeginAfter(recipe: Recipe, steps: number): boolean {
  const quantizing = recipe.findIndex(({ method }) => method.quantizeLinear);
  const leavesDense = ({ method: { transform, finetune } }: Recipe[number], i: number): boolean =>
    !transform && !(finetune && !(quantizing >= 0 && quantizing < i));
  return Number.isInteger(steps) && steps >= 0 && steps <= recipe.length && recipe.slice(0, steps).every(leavesDense);
}

/** What goes from step to step. */
interface RunState {
  readonly model: Model;
  /** The model with the transforms that it went through, and training before anything was quantized, and nothing else; undefined once a quantized model has been transformed. */
  readonly dense: Model | undefined;
}

async function runStep(
  run: Run,
  { index, step }: PlannedStep,
  { model: given, dense }: RunState,
  reference: Model,
  next: MethodDefinition | undefined,
): Promise<RunState> {
  const { method } = step;
  const started = performance.now();
  // Earlier steps may have changed kinds and shapes, so targets and checks are looked at again.
  const shapes = linearShapes(given);
  const planned = planStep(
    step,
    index,
    shapes.map(({ path }) => path),
  );
  checkStep(planned, shapes);
  method.checkModel?.(given, step.options);
  run.emit({ type: 'step-start', step: index, method: method.name, targets: planned.options.size });
  let model = method.transform ? await transform(run, planned, given) : given;
  const reshaped = method.transform ? (dense === given ? model : undefined) : dense;
  // Transforms are not piled up, and training wants all blocks at once.
  const isLeftToNext = !method.finetune && next !== undefined && walksBlocks(next) && !next.transform;
  if (walksBlocks(method) || (hasExpressions(model) && !isLeftToNext)) model = await quantizeBlocks(run, planned, model, reshaped);
  run.told();
  if (method.finetune) {
    const tuned = await restoreTuned(run, index, model);
    model = tuned ?? (await storeTuned(run, index, await finetune(run, planned, model, { reference, dense: reshaped }), model));
  }
  run.emit({ type: 'step-done', step: index, method: method.name, milliseconds: performance.now() - started });
  return { model, dense: staysDense(method, reshaped, dense === given, model) ? model : reshaped };
}

/**
 * Whether a step goes through the blocks one by one, and so evaluates each when its turn comes: what a transform in the step before it
 * left as expressions need not be in memory all at once.
 */
function walksBlocks({ quantizeLinear, refineBlock }: MethodDefinition): boolean {
  return quantizeLinear !== undefined || refineBlock !== undefined;
}

/** Whether nothing is quantized in `model` either: then later steps are compared with it, its training kept. */
function staysDense(method: MethodDefinition, reshaped: Model | undefined, wasDense: boolean, model: Model): boolean {
  if (reshaped === undefined || walksBlocks(method)) return false;
  if (!method.finetune) return method.transform !== undefined;
  return wasDense && denseLinears(model) === model.blocks.reduce((total, { linears }) => total + Object.keys(linears).length, 0);
}

/** Linears that no weight quantizer has worked on. */
function denseLinears(model: Model): number {
  const linears = model.blocks.flatMap((block) => Object.values(block.linears));
  return linears.filter((linear) => quantizablePart(linear).linear instanceof DenseLinear).length;
}

/** Blocks of the result may stay expressions: the walk over the blocks evaluates each when its turn comes. */
async function transform(run: Run, planned: PlannedStep, model: Model): Promise<Model> {
  const { method, options } = planned.step;
  const context = { ...(await methodContext(run, planned, 'transform', 'model', options)), calibration: run.calibration };
  const transformed = await inStage(planned, 'model', async () => method.transform?.(model, context) ?? model);
  const { embedding, norm, head } = await evaluateTree(run.backend, transformed.with({ blocks: [] }));
  return transformed.with({ embedding, norm, head });
}

/** Rises of a divergence, relative and in nats, that rounding weights to float16 makes too. */
const RELATIVE_NOISE = 1e-3;
const ABSOLUTE_NOISE = 1e-6;

/** Models that nothing is quantized in. */
interface FullPrecision {
  /** Before the recipe. */
  readonly reference: Model;
  /** In the basis of the model that is tuned; undefined when a quantized model was transformed. */
  readonly dense: Model | undefined;
}

/** Runs the method's finetune and measures the divergence from the reference before and after, on calibration batches. */
async function finetune(run: Run, planned: PlannedStep, model: Model, { reference, dense }: FullPrecision): Promise<Model> {
  const { index, step, options } = planned;
  const { method } = step;
  const canJudge = run.calibration.length > 0;
  const hidden = canJudge ? await lastHidden(run, reference) : [];
  const before = canJudge ? await meanDivergence(run, reference, hidden, model) : 0;
  const shared = await methodContext(run, planned, 'finetune', 'model', step.options);
  const { calibration, task } = run;
  const referenceBlock = (block: number): Promise<Block> =>
    resolveTree(run.backend, requireReference(dense?.blocks[block], model.blocks[block].path));
  const context = { ...shared, reference, referenceBlock, calibration, task, optionsFor: (path: string) => options.get(path) };
  const started = performance.now();
  const made = await inStage(planned, 'model', async () => method.finetune?.(model, context) ?? model);
  const tuned = await evaluateTree(run.backend, made);
  await judgeModel(run, planned, { model: tuned, dense, milliseconds: performance.now() - started });
  if (!canJudge) return tuned;
  const after = await meanDivergence(run, reference, hidden, tuned);
  run.emit({ type: 'log', step: index, path: 'model', record: { divergenceBefore: before, divergenceAfter: after } });
  // What a finetune quantizes moves away from the reference, and is the price of its bits.
  const quantizes = denseLinears(tuned) < denseLinears(model);
  if (aimOf(step) === 'reference' && !quantizes && !(after <= before * (1 + RELATIVE_NOISE) + ABSOLUTE_NOISE)) {
    const message = `finetuning raised the KL divergence to the reference from ${before.toPrecision(4)} to ${after.toPrecision(4)} nats a token`;
    run.emit({ type: 'warning', step: index, path: 'model', code: 'FINETUNE_DIVERGED', message });
  }
  return tuned;
}

function bitsPerWeight(before: Model, after: Model): number {
  const linears = (model: Model) => model.blocks.flatMap((block) => Object.values(block.linears));
  const weights = linears(before).reduce((total, { inFeatures, outFeatures }) => total + inFeatures * outFeatures, 0);
  return linears(after).reduce((total, { storageBits }) => total + storageBits, 0) / weights;
}

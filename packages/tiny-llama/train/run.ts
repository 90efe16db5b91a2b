// The training loop: steps, held-out loss, checkpoints. It owns no files and prints nothing; what happens is reported as events.
import {
  type Backend,
  createRng,
  LowbitError,
  type Model,
  readNumber,
  type Store,
  type Tensor,
  type TokenBatches,
  throwIfAborted,
} from '@lowbit/core';
import { adam, type NamedTensors, type Optimizer, type OptimizerState, trainStep, withParameters } from '@lowbit/train';
import { type TrainingRecipe, weightDecayOf } from './recipes.js';
import { learningRate, totalSteps } from './schedule.js';
import { parametersOf, windowLoss } from './step.js';
import { trainingBatch } from './windows.js';

/** One point of the loss curve. */
export interface CurvePoint {
  readonly step: number;
  readonly tokens: number;
  /** Mean training loss since the last point, nats per token. */
  readonly trainLoss: number;
  /** Mean loss of the sampled held-out windows. */
  readonly heldOutLoss: number;
}

export type TrainingEvent =
  | { readonly kind: 'resumed'; readonly step: number }
  | { readonly kind: 'step'; readonly step: number; readonly loss: number; readonly gradientNorm: number; readonly learningRate: number }
  | { readonly kind: 'evaluated'; readonly point: CurvePoint };

export interface TrainingRun {
  readonly backend: Backend;
  /** The initial model. */
  readonly model: Model;
  readonly recipe: TrainingRecipe;
  readonly tokens: Int32Array;
  /** Windows of the context's length. */
  readonly heldOut: TokenBatches;
  readonly store: Store;
  /** Steps between two points of the curve. */
  readonly evaluateEvery: number;
  /** Steps between two checkpoints. */
  readonly saveEvery: number;
  readonly onEvent: (event: TrainingEvent) => void;
  readonly signal?: AbortSignal;
}

export interface TrainingResult {
  readonly model: Model;
  readonly curve: readonly CurvePoint[];
}

/** Held-out batches sampled for a point of the curve, spread over the stream. The final figure uses all. */
const CURVE_BATCHES = 8;

/**
 * Mean loss of a model over batches of windows, nats per token: of all batches, or of about `sample` that are spread over them. The
 * first token of a window is not scored.
 */
export async function meanLoss(backend: Backend, model: Model, batches: TokenBatches, sample = batches.length): Promise<number> {
  const stride = Math.max(1, Math.floor(batches.length / sample));
  let total = 0;
  let count = 0;
  for (let i = 0; i < batches.length; i += stride, count++) {
    const [loss] = await backend.evaluate([windowLoss(model, await batches.at(i))]);
    total += await readNumber(loss);
  }
  return total / count;
}

/** Trains until the schedule ends, from the store's last checkpoint where it has one. Equal inputs give equal weights. */
export async function train(run: TrainingRun): Promise<TrainingResult> {
  const { backend, model, recipe, onEvent } = run;
  const windowLength = recipe.shape.contextLength;
  const rng = createRng(recipe.seed).at('batches');
  const steps = totalSteps(recipe.schedule);
  const optimizer = optimizerOf(recipe);
  let { state, curve, step, recent } = await restore(run);
  if (step > 0) onEvent({ kind: 'resumed', step });
  while (step < steps) {
    if (run.signal?.aborted && step > 0) await save(run, { state, curve, step, recent });
    throwIfAborted(run.signal);
    const batch = trainingBatch(run.tokens, windowLength, recipe.batch, step, rng);
    step++;
    const rate = learningRate(recipe.schedule, step);
    const lossOf = (parameters: NamedTensors): Tensor => windowLoss(withParameters(model, parameters), batch);
    // What was saved last may still be read.
    const release = (step - 1) % run.saveEvery !== 0;
    const result = await trainStep({ backend, optimizer, state, lossOf, step, learningRate: rate, release });
    state = result.state;
    recent = [...recent, result.loss];
    if (!Number.isFinite(result.loss)) {
      throw new LowbitError(
        'TRAINING_DIVERGED',
        `${recipe.name}: the loss of step ${step} is ${result.loss}; lower the peak learning rate`,
      );
    }
    onEvent({ kind: 'step', step, loss: result.loss, gradientNorm: result.gradientNorm, learningRate: rate });
    const isLast = step === steps;
    if (isLast || step % run.evaluateEvery === 0) {
      const heldOutLoss = await meanLoss(backend, withParameters(model, state.parameters), run.heldOut, CURVE_BATCHES);
      const trainLoss = recent.reduce((a, b) => a + b, 0) / recent.length;
      const point = { step, tokens: step * recipe.batch * windowLength, trainLoss, heldOutLoss };
      recent = [];
      curve = [...curve, point];
      onEvent({ kind: 'evaluated', point });
    }
    if (isLast || step % run.saveEvery === 0) await save(run, { state, curve, step, recent });
  }
  return { model: withParameters(model, state.parameters), curve };
}

interface Progress {
  readonly state: OptimizerState;
  readonly curve: readonly CurvePoint[];
  readonly step: number;
  /** Losses of the steps since the curve's last point. */
  readonly recent: readonly number[];
}

function optimizerOf(recipe: TrainingRecipe): Optimizer {
  return adam({ ...recipe.optimizer, weightDecay: (name) => weightDecayOf(recipe, name) });
}

async function save({ store, recipe }: TrainingRun, { state, curve, step, recent }: Progress): Promise<void> {
  const tensors: Record<string, Tensor> = {};
  for (const [role, parts] of Object.entries({ parameters: state.parameters, ...state.slots })) {
    for (const [name, t] of parts) tensors[`${role}.${name}`] = t;
  }
  await store.put(recipe.name, { metadata: { step, curve, recent }, tensors });
}

async function restore({ store, recipe, model }: TrainingRun): Promise<Progress> {
  const fresh = optimizerOf(recipe).start(parametersOf(model));
  const entry = await store.get(recipe.name);
  if (!entry) return { state: fresh, curve: [], step: 0, recent: [] };
  const part = (role: string): NamedTensors =>
    new Map(
      [...fresh.parameters.keys()].map((name) => {
        const t = entry.tensors[`${role}.${name}`];
        if (!t)
          throw new LowbitError('CHECKPOINT', `${recipe.name}: the training checkpoint lacks ${role}.${name}; delete it to start anew`);
        return [name, t];
      }),
    );
  return {
    state: { parameters: part('parameters'), slots: { first: part('first'), second: part('second') } },
    curve: entry.metadata.curve as readonly CurvePoint[],
    step: entry.metadata.step as number,
    recent: entry.metadata.recent as readonly number[],
  };
}

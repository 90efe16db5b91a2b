// The training loop: epochs, validation, the best parameters kept, resuming. It knows no model and no method.
import { type Backend, LowbitError, type Rng, readFloats, type StoreEntry, throwIfAborted } from '@lowbit/core';
import { inMemory } from './in-memory.js';
import type { LearningRate } from './learning-rate.js';
import { type Indexed, type LossFunction, meanLoss, type StagedLoss, type StagedValue } from './loss.js';
import type { NamedTensors, Optimizer } from './optimizer.js';
import { restoreTraining, type TrainingState, trainingEntry } from './saved-training.js';
import { stepInPlace } from './step.js';
import { workingState } from './working-state.js';

/** What parameters are judged on besides the batches that they are trained on. */
export interface Validation<Batch> {
  readonly batches: Indexed<Batch>;
  /** Default: the loss that is trained on. */
  readonly lossOf?: LossFunction<Batch> | StagedValue<Batch>;
  /** Epochs from one validation to the next; the start and the last epoch are always judged. Default: 1. */
  readonly every?: number;
  /** 'best': the epoch of least validation loss is kept, the start among them; 'last': validation is only reported. Default: 'best'. */
  readonly keep?: 'best' | 'last';
  /** Training ends after so many judgements in a row that are not better than the best; 'best' must be kept. Default: it never does. */
  readonly patience?: number | undefined;
}

export interface EpochReport {
  /** Counted from 1. */
  readonly epoch: number;
  /** Mean loss of the epoch's steps, each before its update. */
  readonly loss: number;
  /** Undefined where the epoch was not judged. */
  readonly validation: number | undefined;
}

export interface TrainOptions<Batch> {
  readonly backend: Backend;
  /** Leaves by name; they are never written to. Those that are not in memory are read once, and not held besides what is trained. */
  readonly parameters: NamedTensors;
  readonly optimizer: Optimizer;
  /** The loss of a batch, a scalar: a graph, or a loss that computes itself and its gradients in several evaluations. */
  readonly lossOf: LossFunction<Batch> | StagedLoss<Batch>;
  readonly batches: Indexed<Batch>;
  readonly epochs: number;
  /** Steps of an epoch, one batch each; default: one for every batch. Whatever it is, batches are used up before one comes again. */
  readonly stepsPerEpoch?: number | undefined;
  /** Draws another order for each pass over the batches; without it they come in their own order. */
  readonly shuffle?: Rng | undefined;
  readonly learningRate: LearningRate;
  readonly validation?: Validation<Batch> | undefined;
  /**
   * What will be stored of parameters, for example scales rounded to float16. Validation judges it, and the result is it; training goes on
   * from what was not rounded. It may have another form than the parameters where validation brings a loss of its own.
   */
  readonly storedAs?: ((parameters: NamedTensors) => NamedTensors | Promise<NamedTensors>) | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((doneSteps: number, totalSteps: number) => void) | undefined;
  readonly onEpoch?: ((report: EpochReport) => void) | undefined;
  /** What `save` was given last, if the training was interrupted: it goes on from there, to the same bits. */
  readonly saved?: StoreEntry | undefined;
  /** Called at the end of every epoch but the last. */
  readonly save?: ((entry: StoreEntry) => Promise<void>) | undefined;
}

export interface TrainResult {
  /** The parameters that were kept, as they are stored. */
  readonly parameters: NamedTensors;
  /** The epoch that they come from; 0 is the start. */
  readonly epoch: number;
  /** Mean training loss by epoch, up to where the training ended. */
  readonly losses: readonly number[];
  /** Validation loss of the start and of what was kept; undefined without validation. */
  readonly validation: { readonly before: number; readonly after: number } | undefined;
  /** A loss or a parameter became NaN or infinite; training ended there, and an earlier epoch was kept. */
  readonly diverged: boolean;
}

/**
 * Minimises a loss over named tensors, one evaluation a step. Equal inputs give equal bits.
 * @throws TRAIN_OPTIONS when there is nothing to train, or on nothing; ABORTED when the signal is.
 */
export async function train<Batch>(options: TrainOptions<Batch>): Promise<TrainResult> {
  const { backend, batches, epochs, signal, validation } = options;
  checkOptions(options);
  const stepsPerEpoch = options.stepsPerEpoch ?? batches.length;
  const judge = async (parameters: NamedTensors): Promise<number | undefined> => {
    if (!validation) return undefined;
    return meanLoss(backend, await storedForm(options, parameters), validation.lossOf ?? options.lossOf, validation.batches, signal);
  };
  let state = await beginTraining(options, judge);
  let diverged = false;
  while (state.epoch < epochs && !diverged && !isPatienceOver(state, validation)) {
    const loss = await runEpoch(options, state, stepsPerEpoch);
    const epoch = state.epoch + 1;
    diverged = !(Number.isFinite(loss) && (await allFinite(state.optimizer.parameters)));
    if (diverged) break;
    const isJudged = epoch === epochs || epoch % (validation?.every ?? 1) === 0;
    const judged = isJudged ? await judge(state.optimizer.parameters) : undefined;
    state = { ...keep(state, epoch, judged, validation), losses: [...state.losses, loss] };
    options.onEpoch?.({ epoch, loss, validation: judged });
    if (epoch < epochs) await options.save?.(trainingEntry(state));
  }
  const { kept, losses } = state;
  return {
    parameters: await storedForm(options, kept.parameters),
    epoch: kept.epoch,
    losses,
    validation: state.before === undefined ? undefined : { before: state.before, after: kept.validation as number },
    diverged,
  };
}

function checkOptions<Batch>({ parameters, batches, epochs, stepsPerEpoch = 1, validation }: TrainOptions<Batch>): void {
  const fail = (problem: string): never => {
    throw new LowbitError('TRAIN_OPTIONS', `train: ${problem}`);
  };
  if (parameters.size === 0) fail('there are no parameters; name at least one');
  if (batches.length === 0) fail('there are no batches; pass at least one');
  if (validation?.batches.length === 0) fail('there are no batches to validate on; pass at least one, or leave validation out');
  const { every = 1, patience = 1, keep: kept = 'best' } = validation ?? {};
  if (validation?.patience !== undefined && kept === 'last')
    fail('patience waits for a better epoch to keep; keep the best, or leave it out');
  for (const [name, count] of Object.entries({ epochs, stepsPerEpoch, 'validation.every': every, 'validation.patience': patience })) {
    if (!Number.isInteger(count) || count < (name === 'epochs' ? 0 : 1)) fail(`${name} must be a natural number, got ${count}`);
  }
}

async function storedForm<Batch>({ storedAs }: TrainOptions<Batch>, parameters: NamedTensors): Promise<NamedTensors> {
  return storedAs ? storedAs(parameters) : parameters;
}

async function beginTraining<Batch>(
  options: TrainOptions<Batch>,
  judge: (parameters: NamedTensors) => Promise<number | undefined>,
): Promise<TrainingState> {
  const optimizer = workingState(options.optimizer.start(await inMemory(options.parameters)));
  if (options.saved) return restoreTraining(options.saved, optimizer);
  const before = await judge(optimizer.parameters);
  return { optimizer, epoch: 0, losses: [], before, kept: { parameters: new Map(optimizer.parameters), epoch: 0, validation: before } };
}

/** Trains the state's optimizer on. Gives the mean loss of the steps; the first one that is not finite ends the epoch and is the outcome. */
async function runEpoch<Batch>(options: TrainOptions<Batch>, state: TrainingState, stepsPerEpoch: number): Promise<number> {
  const { backend, batches, epochs, signal, learningRate, shuffle, lossOf } = options;
  const steps = epochs * stepsPerEpoch;
  let order: Int32Array | undefined;
  let total = 0;
  for (let i = 0; i < stepsPerEpoch; i++) {
    throwIfAborted(signal);
    const done = state.epoch * stepsPerEpoch + i;
    const position = done % batches.length;
    if (shuffle && (i === 0 || position === 0)) {
      order = shuffle.at('pass', Math.floor(done / batches.length)).permutation(batches.length);
    }
    const batch = await batches.at(order ? order[position] : position);
    const { loss } = await stepInPlace({
      backend,
      optimizer: options.optimizer,
      state: state.optimizer,
      lossOf: (parameters) => (typeof lossOf === 'function' ? lossOf(parameters, batch) : lossOf.gradients(parameters, batch, done + 1)),
      step: done + 1,
      learningRate: learningRate(done + 1, steps),
      // What an epoch begins with may be the given parameters, kept, or saved: others hold it.
      release: i > 0,
    });
    if (!Number.isFinite(loss)) return loss;
    total += loss;
    options.progress?.(done + 1, steps);
  }
  return total / stepsPerEpoch;
}

/** A diverged update can leave its mark in parameters whose loss is never computed. */
async function allFinite(parameters: NamedTensors): Promise<boolean> {
  for (const t of parameters.values()) if (!(await readFloats(t)).every(Number.isFinite)) return false;
  return true;
}

/** Whether the last judgements, as many as patience has, were not better than the one that is kept. */
function isPatienceOver<Batch>({ epoch, kept }: TrainingState, validation: Validation<Batch> | undefined): boolean {
  if (validation?.patience === undefined) return false;
  const judgements = (epochs: number): number => Math.floor(epochs / (validation.every ?? 1));
  return judgements(epoch) - judgements(kept.epoch) >= validation.patience;
}

/** The state after an epoch: whether it is kept is for its validation loss to say. */
function keep<Batch>(
  state: TrainingState,
  epoch: number,
  judged: number | undefined,
  validation: Validation<Batch> | undefined,
): TrainingState {
  const isJudgedBy = validation !== undefined && (validation.keep ?? 'best') === 'best';
  // The first of equals is kept; NaN is never better, and anything is better than a start of NaN.
  const isBetter = judged !== undefined && (judged < (state.kept.validation as number) || Number.isNaN(state.kept.validation));
  const isKept = isJudgedBy ? isBetter : true;
  const parameters = new Map(state.optimizer.parameters);
  return { ...state, epoch, kept: isKept ? { parameters, epoch, validation: judged ?? state.kept.validation } : state.kept };
}

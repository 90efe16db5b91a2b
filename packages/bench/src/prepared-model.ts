// A model with all that its cells share: the held-out text and the evaluators over it, the task, calibration text by seed.
import type { Backend, Evaluator, FinetuneTask } from '@lowbit/core';
import { type EvaluatorName, evaluatorsOf, type Judged, readsText } from './evaluators.js';
import type { ResolvedModel } from './model-reference.js';
import type { RunHooks } from './outcome.js';
import { openSuite, type SuiteSource } from './suite.js';
import { openTask, type TaskSource } from './tasks.js';
import { type CalibrationText, calibrationText, type HeldOutSize, heldOutText, type TextSize, type TextSource } from './texts.js';

/** What decides how models are calibrated and judged. */
export interface Protocol {
  readonly evaluators: readonly EvaluatorName[];
  /** Text of the kind each model was trained on by default. */
  readonly calibration: TextSize & { readonly source?: TextSource | undefined };
  /** The same windows for all recipes and seeds of a model. */
  readonly heldOut: HeldOutSize & { readonly source?: TextSource | undefined };
  /** What recipes with a step for tasks are tuned for, and what the evaluator 'task' judges by. */
  readonly task?: TaskSource | undefined;
  /** Tasks of the literature that models are judged by as well. */
  readonly tasks?: SuiteSource | undefined;
}

export interface PreparedModel {
  readonly resolved: ResolvedModel;
  /** What recipes with a step for tasks are tuned for. */
  readonly task: FinetuneTask | undefined;
  /** Always the same one for a name: it may keep what it found out about the dense model. */
  evaluatorOf(name: EvaluatorName): Evaluator;
  /** One for each task of the literature. */
  readonly suite: readonly Evaluator[];
  /** Prepared once for each seed and number of windows. */
  calibration(windows: number | undefined, seed: number, hooks: RunHooks): Promise<CalibrationText>;
}

/** @throws what opening tasks and preparing held-out text throw. */
export async function prepareModel(resolved: ResolvedModel, backend: Backend, protocol: Protocol, hooks: RunHooks): Promise<PreparedModel> {
  const { name, model, tokenizer, text, hub } = resolved;
  const opened = protocol.task && (await openTask(protocol.task, resolved));
  if (opened) hooks.onProgress?.({ type: 'note', text: `${name}: task: ${opened.report}` });
  const task = opened?.task;
  const suite = protocol.tasks ? await openSuite(protocol.tasks, resolved) : [];
  const calibrations = new Map<string, CalibrationText>();
  return {
    resolved,
    task,
    suite,
    evaluatorOf: evaluatorsOver(protocol.evaluators, { task, windows: await heldOutOf(resolved, backend, protocol, hooks) }),
    async calibration(count, seed, { signal, onProgress }) {
      const windows = count ?? protocol.calibration.windows;
      const key = `${seed} ${windows}`;
      const found = calibrations.get(key);
      if (found) return found;
      const progress = stageProgress(onProgress, 'calibration text', name);
      const size = { ...protocol.calibration, windows };
      const made = await calibrationText(size.source ?? text, size, { model, tokenizer, backend, seed, hub, signal, progress });
      calibrations.set(key, made);
      onProgress?.({ type: 'note', text: `${name}: calibrated on ${made.report}` });
      return made;
    },
  };
}

/** Text that does not depend on the seeds of the cells, so that their numbers can be compared; undefined where no evaluator reads any. */
async function heldOutOf(
  { name, model, tokenizer, text, hub }: ResolvedModel,
  backend: Backend,
  { heldOut, evaluators }: Protocol,
  { signal, onProgress }: RunHooks,
): Promise<Judged['windows']> {
  if (!readsText(evaluators)) return undefined;
  const progress = stageProgress(onProgress, 'held-out text', name);
  const windows = await heldOutText(heldOut.source ?? text, heldOut, { model, tokenizer, backend, seed: 0, hub, signal, progress });
  onProgress?.({ type: 'note', text: `${name}: judged on ${windows.description}, ${windows.scoredTokens} tokens scored` });
  return windows;
}

/** Those of `names` are made at once, and so are their errors. */
function evaluatorsOver(names: readonly EvaluatorName[], judged: Judged): PreparedModel['evaluatorOf'] {
  const made = evaluatorsOf(names, judged);
  const known = new Map(names.map((name, i) => [name, made[i]]));
  return (name) => {
    const found = known.get(name) ?? evaluatorsOf([name], judged)[0];
    known.set(name, found);
    return found;
  };
}

export function stageProgress(onProgress: RunHooks['onProgress'], stage: string, path: string): (done: number, total: number) => void {
  return (done, total) => onProgress?.({ type: 'stage', stage, path, done, total });
}

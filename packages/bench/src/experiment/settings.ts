// What a folder of rows was made with, so that a run can go on with it.
import { isDeepStrictEqual } from 'node:util';
import type { Backend, ExperimentTask, SampleRequest } from '@lowbit/core';
import { type StepRecord, stepRecord } from '@lowbit/formats';
import { refuseOthers, union } from '../json-lines.js';
import { provenanceOf } from '../provenance.js';
import { type ExperimentPlan, isComputed } from './plan.js';

/** As JSON, beside the rows. */
export interface ExperimentSettings {
  /** 'decoupleq/table'. */
  readonly experiment: string;
  readonly seeds: readonly number[];
  readonly models?: readonly string[];
  readonly evaluators?: readonly string[];
  readonly calibration?: object;
  readonly heldOut?: object;
  readonly task?: ExperimentTask | undefined;
  readonly samples?: SampleRequest | undefined;
  readonly arms?: Readonly<Record<string, { readonly calibrationWindows?: number | undefined; readonly steps: readonly StepRecord[] }>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly backend: string;
  /** Every commit that rows come from; see `Provenance`. */
  readonly commits: readonly (string | null)[];
}

export function settingsOf(plan: ExperimentPlan, backend: Backend): ExperimentSettings {
  const { versions, commit } = provenanceOf(backend);
  const tail = { versions, backend: backend.name, commits: [commit] };
  if (isComputed(plan)) return { experiment: plan.name, seeds: plan.seeds, ...(plan.models && { models: plan.models }), ...tail };
  const { name: experiment, models, seeds, evaluators, calibration, heldOut } = plan;
  const { samples, task } = plan.experiment;
  const arms = plan.arms.map(({ name, recipe, calibrationWindows }) => [name, { calibrationWindows, steps: recipe.map(stepRecord) }]);
  // As it will be read back: JSON has no undefined.
  const settings = {
    experiment,
    models,
    seeds,
    evaluators,
    calibration,
    heldOut,
    task,
    samples,
    arms: Object.fromEntries(arms) as object,
    ...tail,
  };
  return JSON.parse(JSON.stringify(settings)) as ExperimentSettings;
}

/**
 * Settings of rows of both. Models, seeds and arms may differ, and commits; what an arm of both does may not.
 * @throws RESUME_SETTINGS naming what differs.
 */
export function joinSettings(earlier: ExperimentSettings, now: ExperimentSettings, directory: string): ExperimentSettings {
  const fields = ['experiment', 'evaluators', 'calibration', 'heldOut', 'task', 'samples', 'versions', 'backend'] as const;
  const changed: string[] = fields.filter((field) => !isDeepStrictEqual(earlier[field], now[field]));
  const arms = Object.entries(now.arms ?? {}).filter(([name, arm]) => {
    const before = earlier.arms?.[name];
    return before !== undefined && !isDeepStrictEqual(before, arm);
  });
  changed.push(...arms.map(([name]) => `arm '${name}'`));
  // A computation's rows are those of all its models.
  if (!now.arms && !isDeepStrictEqual(earlier.models, now.models)) changed.push('models');
  refuseOthers(directory, 'settings.json', changed);
  return {
    ...now,
    seeds: union(earlier.seeds, now.seeds),
    ...(now.models && { models: union(earlier.models ?? [], now.models) }),
    ...(now.arms && { arms: { ...earlier.arms, ...now.arms } }),
    commits: union(earlier.commits, now.commits),
  };
}

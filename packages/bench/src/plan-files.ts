// Digests of what a benchmark reads, so that numbers of a file that has changed since, or is another elsewhere, are not taken for its own.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { LowbitError } from '@lowbit/core';
import { isHubReference } from '@lowbit/hub';
import { modelName, modelNames } from './model-reference.js';
import type { BenchPlan, PlanDraft } from './plan.js';
import { type SuiteSource, suiteFiles } from './suite.js';

/** What is read, by names that are the same on every machine. */
type PlanFiles = Pick<BenchPlan, 'files' | 'weights'>;

/** Of a model's directory: its configuration, tokenizer and weights, and not what is written about it. */
const isOfModel = (name: string): boolean => name.endsWith('.json') || name.endsWith('.safetensors');

/**
 * sha256 of texts and examples by path and of records by task and split; over the files of each model that is a directory. What cannot be read
 * has none: whoever reads it says so; what is of the hub has none either: its commit says which it is. Relative paths of models are resolved from `directory`.
 */
export async function planFiles(
  { models, calibration, heldOut, task, tasks }: Pick<PlanDraft, 'models' | 'calibration' | 'heldOut' | 'task' | 'tasks'>,
  directory: string,
): Promise<PlanFiles> {
  const texts = [calibration.source, heldOut.source].flatMap((source) => (source?.kind === 'file' ? [source.path] : []));
  const examples = [task?.source, task?.dev].filter((path) => typeof path === 'string');
  const files: Record<string, string> = {};
  for (const path of new Set([...texts, ...examples])) Object.assign(files, digested(path, await digestOf([path])));
  for (const [name, paths] of tasks && !isHubReference(tasks.data) ? await recordsOf(tasks) : [])
    Object.assign(files, digested(name, await digestOf(paths)));
  const weights: Record<string, string> = {};
  for (const reference of models.filter((one) => !modelNames.includes(one))) {
    Object.assign(weights, digested(reference, await digestOf(await filesOfModel(resolve(directory, reference)))));
  }
  return { ...(Object.keys(files).length > 0 && { files }), ...(Object.keys(weights).length > 0 && { weights }) };
}

/**
 * For cells of one of the plan's models: what they read here is what the plan was made with.
 * @throws PLAN_FILES naming what is another.
 */
export async function checkPlanFiles(plan: BenchPlan, model: string, directory: string): Promise<void> {
  const models = plan.models.filter((reference) => modelName(reference) === model);
  const here = await planFiles({ ...plan, models }, directory);
  const others = [
    ...Object.entries(plan.files ?? {}).filter(([path, digest]) => here.files?.[path] !== digest),
    ...Object.entries(plan.weights ?? {}).filter(([one, digest]) => models.includes(one) && here.weights?.[one] !== digest),
  ].map(([name]) => name);
  if (others.length === 0) return;
  const remedy = 'copy them from the machine that the plan was made on, or have its cells run where they are';
  throw new LowbitError('PLAN_FILES', `${directory}: ${others.join(', ')}: not here as the plan was made with; ${remedy}`);
}

async function recordsOf(tasks: SuiteSource): ReturnType<typeof suiteFiles> {
  return suiteFiles(tasks).catch(() => new Map());
}

async function filesOfModel(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch(() => []);
  return names
    .filter(isOfModel)
    .sort()
    .map((name) => join(directory, name));
}

function digested(name: string, digest: string | undefined): Record<string, string> {
  return digest === undefined ? {} : { [name]: digest };
}

/** Of one file its own; of several one over theirs, in order. Undefined where one cannot be read, or there is none. */
async function digestOf(paths: readonly string[]): Promise<string | undefined> {
  const digests: string[] = [];
  for (const path of paths) {
    const hash = createHash('sha256');
    const isRead = await pipeline(createReadStream(path), hash).then(
      () => true,
      () => false,
    );
    if (!isRead) return undefined;
    digests.push(hash.digest('hex'));
  }
  return digests.length > 1 ? createHash('sha256').update(digests.join('\n')).digest('hex') : digests[0];
}

// From a benchmark's plan back to a command that runs it: what a report says about how to repeat its numbers.
import { isDeepStrictEqual } from 'node:util';
import { type BenchPlan, type BenchRecipe, hasThreads, modelName, presetNames, presetOf } from '@lowbit/bench';
import { formatInlineRecipe } from './inline-recipe.js';

/** A part of a plan: one recipe on one model. */
export interface PlanPart {
  /** As rows call them. */
  readonly model: string;
  readonly recipe: string;
}

/**
 * A command for all of a plan or a part of it. Undefined where options cannot say what the plan says: a protocol, parts of texts, a model
 * or recipe that it does not have.
 */
export function benchCommand(plan: BenchPlan, part?: PlanPart): string | undefined {
  const { calibration, heldOut, evaluators, seeds, samples, engine } = plan;
  const models = plan.models.filter((reference) => !part || modelName(reference) === part.model);
  const recipes = plan.recipes.filter(({ name }) => !part || name === part.recipe);
  const texts = textWords(plan);
  const isSayable = heldOut.protocol === undefined && calibration.window === heldOut.window && samples === undefined && texts !== undefined;
  if (!isSayable || models.length === 0 || (recipes.length === 0 && part?.recipe !== 'dense')) return undefined;
  const calibrationWindows = new Set(recipes.map((recipe) => recipe.calibrationWindows ?? calibration.windows));
  if (calibrationWindows.size > 1) return undefined;
  const words = [
    ...models.flatMap((model) => ['--model', model]),
    ...(part ? recipeWords(recipes) : presetWords(plan)),
    ...['--evaluators', ...evaluators],
    ...seeds.flatMap((seed) => ['--seeds', String(seed)]),
    ...[...calibrationWindows].flatMap((count) => ['--calibration-windows', String(count)]),
    ...['--windows', String(heldOut.windows)],
    ...(heldOut.window === undefined ? [] : ['--window', String(heldOut.window)]),
    ...texts,
    ...taskWords(plan),
    ...suiteWords(plan),
    // Results depend on both, and what they are by default on the machine.
    ...(engine ? ['--backend', engine.backend, ...(hasThreads(engine.backend) ? ['--threads', String(engine.threads)] : [])] : []),
  ];
  return ['lowbit bench', ...lines(words)].join(' \\\n  ');
}

/** The preset whose recipes these are, or all of them: other options say the rest. */
function presetWords({ recipes }: BenchPlan): string[] {
  const named = (list: readonly Pick<BenchRecipe, 'name' | 'steps'>[]): unknown =>
    list.map(({ name, steps }) => [name, steps.map(({ method, options }) => [method, options ?? {}])]);
  const preset = presetNames.find((name) => {
    const { recipes: own } = presetOf(name);
    return isDeepStrictEqual(named(own as readonly BenchRecipe[]), named(recipes));
  });
  return preset === undefined ? recipeWords(recipes) : ['--preset', preset];
}

/** The dense model is judged with any recipe: the one that does least. */
function recipeWords(recipes: readonly BenchRecipe[]): string[] {
  if (recipes.length === 0) return ['--recipe', 'rtn'];
  return recipes.flatMap(({ module, steps }) => [
    '--recipe',
    module ?? formatInlineRecipe(steps.map(({ method, options = {} }) => ({ method, options: { ...options } }))),
  ]);
}

/** Undefined where the two are not parts of one text, or a task's text is read in another way than they are: there is one option for both. */
function textWords({ calibration, heldOut, task }: BenchPlan): string[] | undefined {
  const [first, second] = [calibration.source, heldOut.source].map((source) => source && { ...source, split: undefined });
  if (!isDeepStrictEqual(first, second)) return undefined;
  const named = first === undefined ? [] : ['--text', first.kind === 'file' ? first.path : first.kind];
  // Of examples, which have a template, nothing is read as text.
  const ofTask = task?.template === undefined ? task?.text : undefined;
  const ways = [...(first?.kind === 'file' ? [first] : []), ...(ofTask ? [ofTask] : [])].map(({ documents = 'whole', field = 'text' }) => [
    '--documents',
    documents,
    '--field',
    field,
  ]);
  if (ways.some((way) => !isDeepStrictEqual(way, ways[0]))) return undefined;
  const split = first?.kind === 'file' && first.datasetSplit !== undefined ? ['--split', first.datasetSplit] : [];
  return [...named, ...(ways[0] ?? []), ...split];
}

function taskWords({ task }: BenchPlan): string[] {
  if (!task) return [];
  const { source, template, labels, dev, columns, length, limit } = task;
  const pairs = labels && Object.entries(labels).map(([label, word]) => `${label}=${word}`);
  return words({
    task: source,
    template,
    labels: pairs?.join(','),
    'task-dev': dev,
    'task-columns': columns?.join(','),
    'task-length': length,
    'task-limit': limit && `${limit.train},${limit.dev}`,
  });
}

function suiteWords({ tasks }: BenchPlan): string[] {
  if (!tasks) return [];
  const { names, data, shots, limit, answerTokens, allowsCode } = tasks;
  const said = { tasks: names.join(','), 'task-data': data, 'task-shots': shots, 'task-items': limit, 'task-tokens': answerTokens };
  return [...words(said), ...(allowsCode ? ['--allow-code-execution'] : [])];
}

function words(options: Readonly<Record<string, string | number | undefined>>): string[] {
  return Object.entries(options).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, String(value)]));
}

/** An option and its values a line, quoted for a shell. */
function lines(all: readonly string[]): string[] {
  const options: string[] = [];
  for (const word of all) {
    const quoted = /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
    if (word.startsWith('--')) options.push(word);
    else options[options.length - 1] += ` ${quoted}`;
  }
  return options;
}

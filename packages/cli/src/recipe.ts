// From what a person wrote (inline text or a file) to a recipe.
import { readFile } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BenchRecipe, NamedRecipe, PlanDraft } from '@lowbit/bench';
import { LowbitError, type Recipe, type Step, type StepReference } from '@lowbit/core';
import { parse as parseYaml, YAMLParseError } from 'yaml';
import { formatInlineRecipe, parseInlineRecipe, parseInlineSweep, type StepText } from './inline-recipe.js';
import { findMethod } from './methods.js';
import { checkOptions } from './option-check.js';

const FILE_TYPES = ['.ts', '.mts', '.js', '.mjs', '.json', '.yaml', '.yml'];

/** A recipe as plain data, with its methods by name; what a module exports stays in its file. */
type RecipeDraft = PlanDraft['recipes'][number];

/**
 * A recipe by its text: a path to a file (.ts, .js, .json, .yaml) or inline steps.
 * @throws RECIPE_SYNTAX, RECIPE_FILE, METHOD_UNKNOWN, OPTIONS_INVALID
 */
export async function readRecipe(text: string, directory: string): Promise<NamedRecipe> {
  const draft = isFile(text) ? await draftFile(text, directory) : { name: text, steps: parseInlineRecipe(text) };
  return { name: draft.name, recipe: await buildRecipe(draft, directory) };
}

/** The steps of all recipes, one after another. @throws as `readRecipe`. */
export async function readRecipes(texts: readonly string[], directory: string): Promise<Recipe> {
  const recipes: Recipe[] = [];
  for (const text of texts) recipes.push((await readRecipe(text, directory)).recipe);
  return recipes.flat();
}

/**
 * The recipes of some texts, before their methods are looked up: an inline one may have several values for an option. Those that would
 * have one name are called by all that they say.
 * @throws RECIPE_SYNTAX, RECIPE_FILE
 */
export async function draftRecipes(texts: readonly string[], directory: string): Promise<RecipeDraft[]> {
  const drafts: RecipeDraft[] = [];
  for (const text of texts) drafts.push(...(isFile(text) ? [await draftFile(text, directory)] : parseInlineSweep(text)));
  const count = (name: string): number => drafts.filter((draft) => draft.name === name).length;
  return drafts.map((draft) => {
    const { name, module, steps = [] } = draft;
    const isTaken = count(name) > 1 && module === undefined;
    return isTaken ? { ...draft, name: formatInlineRecipe(steps.map(({ method, options = {} }) => ({ method, options }))) } : draft;
  });
}

function isFile(text: string): boolean {
  return FILE_TYPES.includes(extname(text));
}

async function draftFile(text: string, directory: string): Promise<RecipeDraft> {
  const type = extname(text);
  const name = basename(text, type);
  const isModule = /[jt]s$/.test(type);
  return isModule ? { name, module: text } : { name, steps: await readSteps(resolve(directory, text)) };
}

/** @throws RECIPE_FILE, METHOD_UNKNOWN, OPTIONS_INVALID */
export async function buildRecipe({ module, steps = [] }: RecipeDraft | BenchRecipe, directory: string): Promise<Recipe> {
  return module === undefined ? buildSteps(steps, directory) : importRecipe(resolve(directory, module));
}

/** Steps by their methods' names. @throws METHOD_UNKNOWN, OPTIONS_INVALID */
export async function buildSteps(steps: readonly StepReference[], directory: string): Promise<Recipe> {
  const built: Step[] = [];
  for (const { method, options = {} } of steps) {
    const create = await findMethod(method, directory);
    checkOptions(create.definition, options);
    built.push(create(options));
  }
  return built;
}

/** A module whose default export is a step or a list of steps. TypeScript is compiled as it is loaded. */
async function importRecipe(path: string): Promise<Recipe> {
  const exported = ((await importModule(path)) as { default?: unknown }).default;
  const steps: unknown[] = Array.isArray(exported) ? exported : [exported];
  if (steps.length === 0 || !steps.every(isStep)) {
    throw new LowbitError('RECIPE_FILE', `${path}: the default export is not a recipe; export default [gptq({ bits: 2 })]`);
  }
  return steps;
}

async function importModule(path: string): Promise<unknown> {
  const url = pathToFileURL(path).href;
  try {
    if (!/ts$/.test(path)) return await import(url);
    await requireModule(path);
    // Not tsImport: that gives a recipe copies of its own of the packages it imports, and `instanceof` would fail between them and ours.
    const { register } = await import('tsx/esm/api');
    const unregister = register();
    try {
      return await import(url);
    } finally {
      await unregister();
    }
  } catch (error) {
    if (error instanceof LowbitError) throw error;
    throw new LowbitError('RECIPE_FILE', `${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** A .ts file in a CommonJS package would be compiled to `require` calls, and those give copies of the packages as well. */
async function requireModule(path: string): Promise<void> {
  if (extname(path) !== '.ts') return;
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const manifest = await readFile(join(folder, 'package.json'), 'utf8').catch(() => undefined);
    if (manifest !== undefined && (JSON.parse(manifest) as { type?: string }).type === 'module') return;
    if (manifest !== undefined || folder === dirname(folder)) break;
  }
  throw new LowbitError('RECIPE_FILE', `${path}: is not in an ES module package; call it .mts, or put "type": "module" into package.json`);
}

function isStep(value: unknown): value is Step {
  return typeof value === 'object' && value !== null && 'method' in value && 'options' in value && 'targets' in value;
}

/** A JSON or YAML list of { method, options?, targets?, overrides? }. */
async function readSteps(path: string): Promise<StepText[]> {
  const entries = parseDocument(path, await readText(path));
  if (!Array.isArray(entries) || entries.length === 0) {
    throw new LowbitError(
      'RECIPE_FILE',
      `${path}: expected a list of steps, each with a method: [{ "method": "gptq", "options": { "bits": 2 } }]`,
    );
  }
  return entries.map((entry, i) => stepText(entry, `${path}: step ${i + 1}`));
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new LowbitError('RECIPE_FILE', `${path}: cannot be read; give the path of a recipe file`, { cause: error });
  }
}

function parseDocument(path: string, text: string): unknown {
  try {
    // Every JSON document is a YAML document; the YAML parser's messages name line and column.
    return parseYaml(text) as unknown;
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    // Its first line says what and where; the others show the place.
    const [what] = error.message.split('\n');
    throw new LowbitError(
      'RECIPE_FILE',
      `${path}: is no ${extname(path) === '.json' ? 'JSON' : 'YAML'}: ${what.replace(/:$/, '')}; correct it`,
      {
        cause: error,
      },
    );
  }
}

const STEP_MEMBERS = ['method', 'options', 'targets', 'overrides'];

function stepText(entry: unknown, where: string): StepText {
  if (typeof entry !== 'object' || entry === null || !('method' in entry) || typeof entry.method !== 'string') {
    throw new LowbitError('RECIPE_FILE', `${where}: has no method; write { "method": "gptq", "options": { "bits": 2 } }`);
  }
  const unknown = Object.keys(entry).filter((name) => !STEP_MEMBERS.includes(name));
  if (unknown.length > 0) {
    throw new LowbitError(
      'RECIPE_FILE',
      `${where}: ${unknown.join(', ')} is not known here; a step has ${STEP_MEMBERS.join(', ')}. Put a method's options under options`,
    );
  }
  const { method, options = {}, ...settings } = entry as { method: string; options?: unknown };
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw new LowbitError('RECIPE_FILE', `${where}: options must be an object`);
  return { method, options: { ...options, ...settings } };
}

// Recipes on the command line: 'gptq:bits=2,groupSize=64', several steps joined by '+'.
import { LowbitError } from '@lowbit/core';

/** A step as it is written in a file or on the command line, before its method is known. */
export interface StepText {
  readonly method: string;
  readonly options: Readonly<Record<string, unknown>>;
}

/**
 * Parses 'rtn', 'gptq:bits=2,groupSize=64', 'quad:rank=16+gptq:bits=4'. Values are JSON where they parse as JSON
 * (numbers, true, false, lists, objects) and text otherwise; commas inside brackets and quotes do not separate. `flag` is where it was written.
 * @throws RECIPE_SYNTAX, also for an option with several values, which only a benchmark takes.
 */
export function parseInlineRecipe(text: string, flag = '--recipe'): StepText[] {
  const [{ steps }, ...others] = parseInlineSweep(text, flag);
  if (others.length === 0) return steps;
  throw syntaxError(flag, text, `it is ${others.length + 1} recipes, and one is wanted here; only bench compares several`);
}

/** One of the recipes that a text with several values for some options stands for. */
export interface SweptRecipe {
  /** With the options that vary alone: 'gptq:bits=2+lrec' of 'gptq:bits=2|3,groupSize=64+lrec'. The text itself where nothing varies. */
  readonly name: string;
  readonly steps: StepText[];
}

/**
 * Every combination of the values that options are given: 'gptq:bits=2|3|4' is three recipes. The values of what is written first vary
 * most slowly.
 * @throws RECIPE_SYNTAX
 */
export function parseInlineSweep(text: string, flag = '--recipe'): SweptRecipe[] {
  const steps = splitOutside(text, '+').map((step) => parseStep(step, (what) => syntaxError(flag, text, what)));
  const isSwept = steps.some(({ options }) => [...options.values()].some((values) => values.length > 1));
  return combinations(steps.map(combinationsOf)).map((combined) => ({
    name: isSwept ? combined.map(({ varied, method }) => formatStep({ method, options: varied })).join('+') : text,
    steps: combined.map(({ method, options }) => ({ method, options })),
  }));
}

/** A step with all values of each option. */
interface SweptStep {
  readonly method: string;
  readonly options: ReadonlyMap<string, readonly unknown[]>;
}

function parseStep(step: string, error: (what: string) => LowbitError): SweptStep {
  const colon = step.indexOf(':');
  const method = (colon < 0 ? step : step.slice(0, colon)).trim();
  if (!/^[@\w][\w@/.-]*$/.test(method)) throw error(`'${method}' is not the name of a method`);
  const options = new Map<string, readonly unknown[]>();
  for (const pair of colon < 0 ? [] : splitOutside(step.slice(colon + 1), ',')) {
    const equals = pair.indexOf('=');
    const name = pair.slice(0, equals).trim();
    if (equals < 0 || name === '') throw error(`'${pair.trim()}' is not name=value`);
    if (options.has(name)) throw error(`${name} is given twice`);
    const values = splitOutside(pair.slice(equals + 1), '|').map((value) => value.trim());
    if (new Set(values).size < values.length) throw error(`${name} has a value twice`);
    if (values.length > 1 && values.includes('')) throw error(`${name} has a value that is empty`);
    options.set(name, values.map(parseValue));
  }
  return { method, options };
}

/** The step with each choice of values; `varied` are the options that have several. */
function combinationsOf({ method, options }: SweptStep): (StepText & { readonly varied: StepText['options'] })[] {
  const names = [...options.keys()];
  return combinations([...options.values()]).map((values) => {
    const pairs = names.map((name, i) => [name, values[i]] as const);
    const varied = pairs.filter(([name]) => (options.get(name)?.length ?? 0) > 1);
    return { method, options: Object.fromEntries(pairs), varied: Object.fromEntries(varied) };
  });
}

/** Every list with one item of each of the lists; the last varies fastest. */
function combinations<T>(lists: readonly (readonly T[])[]): T[][] {
  return lists.reduce<T[][]>((begun, items) => begun.flatMap((list) => items.map((item) => [...list, item])), [[]]);
}

function syntaxError(flag: string, text: string, what: string): LowbitError {
  return new LowbitError('RECIPE_SYNTAX', `${flag} ${text}: ${what}; write method:option=value,option=value, and join steps by +`);
}

/** What `parseInlineRecipe` reads back as these steps. */
export function formatInlineRecipe(steps: readonly StepText[]): string {
  return steps.map(formatStep).join('+');
}

function formatStep({ method, options }: StepText): string {
  const pairs = Object.entries(options).map(([name, value]) => `${name}=${formatValue(value)}`);
  return pairs.length === 0 ? method : `${method}:${pairs.join(',')}`;
}

/** Text without quotes where it is a word that is no JSON. */
function formatValue(value: unknown): string {
  const isWord = typeof value === 'string' && /^[a-z][\w.-]*$/i.test(value);
  return isWord && parseValue(value) === value ? value : JSON.stringify(value);
}

function parseValue(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** Splits at a separator that stands outside brackets and double quotes; '+' in an exponent (1e+3) does not separate either. */
function splitOutside(text: string, separator: string): string[] {
  const parts = [''];
  let depth = 0;
  let isQuoted = false;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '"' && text[i - 1] !== '\\') isQuoted = !isQuoted;
    if (!isQuoted && '[{'.includes(character)) depth++;
    if (!isQuoted && ']}'.includes(character)) depth--;
    const separates = character === separator && depth === 0 && !isQuoted && !(separator === '+' && /\de$/i.test(text.slice(0, i)));
    if (separates) parts.push('');
    else parts[parts.length - 1] += character;
  }
  return parts;
}

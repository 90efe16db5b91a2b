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
 * @throws RECIPE_SYNTAX
 */
export function parseInlineRecipe(text: string, flag = '--recipe'): StepText[] {
  const syntaxError = (what: string): LowbitError =>
    new LowbitError('RECIPE_SYNTAX', `${flag} ${text}: ${what}; write method:option=value,option=value, and join steps by +`);
  return splitOutside(text, '+').map((step) => {
    const colon = step.indexOf(':');
    const method = (colon < 0 ? step : step.slice(0, colon)).trim();
    if (!/^[@\w][\w@/.-]*$/.test(method)) throw syntaxError(`'${method}' is not the name of a method`);
    const options: Record<string, unknown> = {};
    for (const pair of colon < 0 ? [] : splitOutside(step.slice(colon + 1), ',')) {
      const equals = pair.indexOf('=');
      const name = pair.slice(0, equals).trim();
      if (equals < 0 || name === '') throw syntaxError(`'${pair.trim()}' is not name=value`);
      if (Object.hasOwn(options, name)) throw syntaxError(`${name} is given twice`);
      options[name] = parseValue(pair.slice(equals + 1).trim());
    }
    return { method, options };
  });
}

/** What `parseInlineRecipe` reads back as these steps. */
export function formatInlineRecipe(steps: readonly StepText[]): string {
  return steps
    .map(({ method, options }) => {
      const pairs = Object.entries(options).map(([name, value]) => `${name}=${formatValue(value)}`);
      return pairs.length === 0 ? method : `${method}:${pairs.join(',')}`;
    })
    .join('+');
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

// A method's options as a person wrote them: which names exist, and what each takes, said where one is wrong.
import { didYouMean } from '@lowbit/bench';
import { LowbitError, type MethodDefinition } from '@lowbit/core';
import { describeOptions, type OptionDescription, takesOtherOptions } from './option-help.js';

/** What every method accepts beside its own options. */
const SETTINGS = ['targets', 'overrides'];

/**
 * Checks written options and overrides as far as the method's schema describes itself. The method parses them all the same: what is not
 * found here, it finds with its own words.
 * @throws OPTIONS_INVALID naming the options that exist, or what the option takes.
 */
export function checkOptions(definition: MethodDefinition, written: Readonly<Record<string, unknown>>): void {
  const known = describeOptions(definition);
  if (!known) return;
  const { targets: _targets, overrides = {}, ...options } = written;
  checkOne(definition, known, options, options, '');
  if (!isRecord(overrides)) return;
  for (const [glob, changed] of Object.entries(overrides)) {
    if (isRecord(changed)) checkOne(definition, known, changed, { ...options, ...changed }, ` override '${glob}':`);
  }
}

/** `all` is `written` with what it leaves out. */
function checkOne(
  definition: MethodDefinition,
  known: readonly OptionDescription[],
  written: Readonly<Record<string, unknown>>,
  all: Readonly<Record<string, unknown>>,
  where: string,
): void {
  const names = known.map(({ name }) => name);
  const unknown = Object.keys(written).find((name) => !names.includes(name));
  if (unknown !== undefined && !takesOtherOptions(definition)) {
    // An override cannot have settings of its own.
    const choices = where === '' ? [...names, ...SETTINGS] : names;
    throw new LowbitError('OPTIONS_INVALID', `${definition.name}:${where} no option '${unknown}'; ${didYouMean(unknown, choices)}`);
  }
  const result = definition.options['~standard'].validate(all);
  if (result instanceof Promise || !result.issues) return;
  const problems = result.issues.flatMap(({ path = [], message }) => {
    const keys = path.map((part) => (typeof part === 'object' ? part.key : part));
    const option = known.find(({ name }) => name === keys[0]);
    return option ? [`${keys.join('.')}: ${message}; ${option.name} takes ${option.type}, got ${JSON.stringify(all[option.name])}`] : [];
  });
  // Of the others, which are no single option's, the method says it better.
  if (problems.length < result.issues.length) return;
  throw new LowbitError('OPTIONS_INVALID', `${definition.name}:${where} ${problems.join('; ')}`);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// Overrides of options that hold for a step as a whole are refused: nothing would read them.
import { LowbitError, type Method } from '@lowbit/core';
import { weightShape } from './options.js';

/** Norms have no Linear. */
const { trainNorms: _, ...ofLinears } = weightShape;

/** The method, whose overrides may give a Linear its own grid, quantizer and start. @throws OPTIONS_INVALID naming another option. */
export function withLinearOverrides<Schema extends Method['definition']['options']>(method: Method<Schema>): Method<Schema> {
  const make = method as unknown as (input?: Readonly<Record<string, unknown>>) => ReturnType<Method<Schema>>;
  const { name } = method.definition;
  const checked = (input?: Readonly<Record<string, unknown>>): ReturnType<Method<Schema>> => {
    const step = make(input);
    for (const [glob, changed] of Object.entries((input?.['overrides'] ?? {}) as Readonly<Record<string, object>>)) {
      const shared = Object.keys(changed).find((option) => !(option in ofLinears));
      if (shared === undefined) continue;
      const remedy = `set it for the step; an override may change ${Object.keys(ofLinears).join(', ')}`;
      throw new LowbitError('OPTIONS_INVALID', `${name}: overrides '${glob}': ${shared} holds for all Linears of a step; ${remedy}`);
    }
    return step;
  };
  return Object.assign(checked as unknown as Method<Schema>, { definition: method.definition });
}

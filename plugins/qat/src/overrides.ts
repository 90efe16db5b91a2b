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
    const overrides = input?.['overrides'] ?? {};
    const step = make(isRecord(overrides) ? { ...input, overrides: withoutWeights(overrides) } : input);
    for (const [glob, changed] of Object.entries(overrides)) {
      const shared = Object.keys(changed).find((option) => !(option in ofLinears));
      if (shared === undefined) continue;
      const remedy = `set it for the step; an override may change ${Object.keys(ofLinears).join(', ')}`;
      throw new LowbitError('OPTIONS_INVALID', `${name}: overrides '${glob}': ${shared} holds for all Linears of a step; ${remedy}`);
    }
    return step;
  };
  return Object.assign(checked as unknown as Method<Schema>, { definition: method.definition });
}

type Written = Readonly<Record<string, unknown>>;

function isRecord(value: unknown): value is Written {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const defaultsOfWeights = { latent: 'codes', clip: 'minmax', weightDecay: 0 };

/** Options of a step that are about weights behind codes do not hold for Linears that an override leaves without such. */
function withoutWeights(overrides: Written): Written {
  const entries = Object.entries(overrides).map(([glob, changed]): [string, unknown] => [
    glob,
    isRecord(changed) && changed['train'] === 'scales' ? { ...defaultsOfWeights, ...changed } : changed,
  ]);
  return Object.fromEntries(entries);
}

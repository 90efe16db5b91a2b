// The methods that come with us, by name: what presets are made of.
import { LowbitError, type MethodDefinition, type Recipe, type Step, type StepReference } from '@lowbit/core';
import { decoupleq, decoupleqSft } from '@lowbit/decoupleq';
import { gptq } from '@lowbit/gptq';
import { emef, lowRankCorrection, lrec, mergeAdapters } from '@lowbit/int2-lrec';
import { qat, qatBlocks } from '@lowbit/qat';
import { activations, compensate, quad, rotate, tune } from '@lowbit/quad';
import { quzo } from '@lowbit/quzo';
import { rtn } from '@lowbit/rtn';
import { didYouMean } from './suggestion.js';

/** A method whose options are of any kind: it parses them itself. */
interface AnyMethod {
  (options?: Readonly<Record<string, unknown>>): Step;
  readonly definition: MethodDefinition;
}

const methods = [
  ...[rtn, gptq, decoupleq, decoupleqSft, lrec, lowRankCorrection, emef, mergeAdapters],
  ...[activations, rotate, quad, compensate, tune, qatBlocks, qat, quzo],
] as unknown as readonly AnyMethod[];

/** Steps of methods that come with us. @throws METHOD_UNKNOWN, OPTIONS_INVALID */
export async function buildBuiltIn({ steps = [] }: { readonly steps?: readonly StepReference[] | undefined }): Promise<Recipe> {
  return steps.map(({ method: name, options }) => {
    const method = methods.find(({ definition }) => definition.name === name);
    if (method) return method(options);
    const known = methods.map(({ definition }) => definition.name);
    throw new LowbitError('METHOD_UNKNOWN', `no method '${name}' among those that come with lowbit; ${didYouMean(name, known)}`);
  });
}

// A recipe's steps as JSON, as they are kept in a checkpoint.
import type { Step } from '@lowbit/core';
import { z } from 'zod';

export const stepRecordSchema = z.object({
  method: z.string(),
  version: z.number(),
  options: z.unknown(),
  targets: z.array(z.string()),
  overrides: z.array(z.object({ glob: z.string(), options: z.unknown() })),
});

/** One step of a recipe: the method's name and version, its parsed options and what it was applied to. */
export type StepRecord = z.infer<typeof stepRecordSchema>;

/** A step as JSON; one that is a record already stays as it is. */
export function stepRecord(step: Step | StepRecord): StepRecord {
  const { options, targets, overrides } = step;
  const method =
    typeof step.method === 'string'
      ? { method: step.method, version: (step as StepRecord).version }
      : { method: step.method.name, version: step.method.version };
  return { ...method, options, targets: [...targets], overrides: overrides.map(({ glob, options }) => ({ glob, options })) };
}

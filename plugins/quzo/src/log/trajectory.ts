// The whole of a run in a few numbers a step: seeds and directional derivatives (MeZO §2.1, arXiv 2305.17333).
import { LowbitError } from '@lowbit/core';
import { z } from 'zod';
import { quzoOptions } from '../options.js';

const kind = z.enum(['codes', 'scales', 'adapters', 'weights']);

const schema = z.strictObject({
  format: z.literal('lowbit-quzo'),
  version: z.literal(1),
  /** Every draw is addressed below it. */
  runSeed: z.int().min(0),
  /** Of the step as a whole, written out in full. */
  options: z.record(z.string(), z.unknown()),
  /** Adapters that are attached before the first step. */
  adapters: z.array(z.strictObject({ path: z.string(), rank: z.int(), alpha: z.number() })).readonly(),
  parameters: z
    .array(
      z.strictObject({
        name: z.string(),
        kind,
        epsilon: z.number(),
        learningRate: z.number(),
        perturbBits: z.int(),
        sparsity: z.number(),
      }),
    )
    .readonly(),
  /** Digest of the model before the first step. */
  start: z.string(),
  /** Directional derivatives of the queries of each step, as they were used. A step with none changed nothing. */
  records: z.array(z.strictObject({ step: z.int().min(1), mu: z.array(z.number()).readonly() })).readonly(),
});

/** A run as plain JSON. */
export type Trajectory = z.output<typeof schema>;

/** One step of a run. */
export type StepRecord = Trajectory['records'][number];

/** What is known of a run before its first step. */
export type TrajectoryHeader = Omit<Trajectory, 'records' | 'start'>;

/** Checks a run that comes from a file. @throws REPLAY_LOG naming what is wrong. */
export function parseTrajectory(value: unknown): Trajectory {
  const result = schema.safeParse(value);
  const options = quzoOptions.safeParse(result.data?.options ?? {});
  const issues = [...(result.error?.issues ?? []), ...(options.error?.issues ?? [])];
  if (result.data && issues.length === 0) return result.data;
  const problems = issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ');
  throw new LowbitError('REPLAY_LOG', `quzo: not the log of a run: ${problems}; it is damaged or from another version`);
}

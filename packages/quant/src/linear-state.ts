// Reading a Linear's state, which may come from a file: every field is checked before it is used.
import { type LinearState, LowbitError, type Tensor } from '@lowbit/core';
import type { z } from 'zod';

/** The state's attributes, checked. @throws LINEAR_STATE naming the kind and the attribute. */
export function parseAttributes<Schema extends z.ZodType>(state: LinearState, schema: Schema): z.output<Schema> {
  const result = schema.safeParse(state.attributes);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new LowbitError(
    'LINEAR_STATE',
    `a stored linear of kind '${state.kind}' has wrong attributes: ${problems.join('; ')}; the file is damaged or from another version`,
  );
}

/** A tensor that the kind cannot do without. @throws LINEAR_STATE when it is missing. */
export function requireTensor(state: LinearState, name: string): Tensor {
  return required(state, name, state.tensors[name], 'tensor');
}

/** A wrapped Linear that the kind cannot do without. @throws LINEAR_STATE when it is missing. */
export function requirePart(state: LinearState, name: string): LinearState {
  return required(state, name, state.parts?.[name], 'part');
}

function required<T>(state: LinearState, name: string, value: T | undefined, what: string): T {
  if (value !== undefined) return value;
  throw new LowbitError(
    'LINEAR_STATE',
    `a stored linear of kind '${state.kind}' lacks the ${what} '${name}'; the file is damaged or from another version`,
  );
}

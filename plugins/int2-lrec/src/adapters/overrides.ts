// Overrides of a method whose adapters have a rank or an overhead.
import type { Method } from '@lowbit/core';

/**
 * The method, with an overhead that an override writes in place of a rank of the whole step, which would count before it. A rank that an
 * override writes counts before an overhead anyway.
 */
export function sizedByOverrides<Schema extends Method['definition']['options']>(method: Method<Schema>): Method<Schema> {
  const make = method as unknown as (input?: Readonly<Record<string, unknown>>) => ReturnType<Method<Schema>>;
  const sized = (input?: Readonly<Record<string, unknown>>): ReturnType<Method<Schema>> => {
    const { overrides } = input ?? {};
    return isRecord(overrides) ? make({ ...input, overrides: mapValues(overrides, withoutRank) }) : make(input);
  };
  return Object.assign(sized as unknown as Method<Schema>, { definition: method.definition });
}

function withoutRank(changed: unknown): unknown {
  return isRecord(changed) && changed['overhead'] !== undefined && changed['rank'] === undefined
    ? { ...changed, rank: undefined }
    : changed;
}

/** Anything else is for the method to refuse. */
function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function mapValues(record: Readonly<Record<string, unknown>>, map: (value: unknown) => unknown): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}

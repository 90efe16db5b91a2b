// Guards what is written as JSON: JSON.stringify would drop or change some values in silence.
import { LowbitError } from '@lowbit/core';

/**
 * Passes values that survive a trip through JSON. Object fields that are undefined count as absent.
 * @throws NOT_JSON naming the place of the first value that does not survive.
 */
export function requireJson(value: unknown, where: string): void {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return;
  if (typeof value === 'number' && Number.isFinite(value)) return;
  if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) requireJson(item, `${where}[${i}]`);
    return;
  }
  if (typeof value === 'object' && [Object.prototype, null].includes(Object.getPrototypeOf(value))) {
    for (const [key, item] of Object.entries(value)) if (item !== undefined) requireJson(item, `${where}.${key}`);
    return;
  }
  const what =
    typeof value === 'object' ? (value.constructor?.name ?? 'an object') : typeof value === 'number' ? String(value) : `a ${typeof value}`;
  throw new LowbitError(
    'NOT_JSON',
    `${where}: ${what} cannot be kept as JSON; use plain objects, lists, finite numbers, strings and booleans`,
  );
}

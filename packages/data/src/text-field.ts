// The text within a record of a corpus, by a path of keys.
import { LowbitError } from '@lowbit/core';

/**
 * The string at the end of a path of keys: ['messages', '0', 'content']. None are the value itself.
 * @throws an error of `code` that lists the fields there are.
 */
export function textField(record: unknown, keys: readonly string[], where: string, code: string): string {
  const field = keys.join('.');
  let value = record;
  for (const key of keys) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) {
      const known =
        typeof value === 'object' && value !== null ? `has ${Object.keys(value).join(', ') || 'no fields'}` : `is ${JSON.stringify(value)}`;
      throw new LowbitError(
        code,
        `${where}: no field '${field}' ('${key}' is missing; the object there ${known}); name the field that holds the text`,
      );
    }
    value = (value as Record<string, unknown>)[key];
  }
  if (typeof value !== 'string') {
    const what = field === '' ? 'the value' : `field '${field}'`;
    throw new LowbitError(
      code,
      `${where}: ${what} is ${value === null ? 'null' : typeof value}, not a string; name a field that holds text`,
    );
  }
  return value;
}

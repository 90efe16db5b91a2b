// Numbers that are typed for a benchmark: nothing is not zero.
import { describe, expect, it } from 'vitest';
import { integer } from '../src/arguments.js';

describe('a whole number', () => {
  it.each(['', ' ', '-1', '1.5', 'x', '9007199254740993', 'Infinity'])("is not '%s'", (text) => {
    expect(() => integer(0)(text)).toThrow('expected a whole number of at least 0.');
  });

  it('is at least what it must be', () => {
    expect(integer(0)('0')).toBe(0);
    expect(() => integer(1)('0')).toThrow('at least 1');
  });
});

// Written options against a method's schema.
import { LowbitError, type MethodDefinition } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { checkOptions } from '../src/option-check.js';

function methodOf(options: MethodDefinition['options']): MethodDefinition {
  return { name: 'sample', version: 1, options };
}

const strict = methodOf(z.strictObject({ bits: z.int().min(1).max(8), mode: z.enum(['a', 'b']).optional() }));

describe('checkOptions', () => {
  it.each([
    [{ bits: 9 }, 'sample: bits: Too big: expected number to be <=8; bits takes integer 1 to 8, got 9'],
    [{ bits: 2, mode: 'c' }, 'mode takes "a" | "b", got "c"'],
    [{ bitz: 2 }, "sample: no option 'bitz'; did you mean 'bits'? known: bits, mode, targets, overrides"],
    [{ bits: 2, overrides: { '**': { bits: 0 } } }, "sample: override '**': bits: "],
    [{ bits: 2, overrides: { '**': { targets: [] } } }, "override '**': no option 'targets'; known: bits, mode"],
  ])('refuses %j', (written, message) => {
    expect(() => checkOptions(strict, written)).toThrow(LowbitError);
    expect(() => checkOptions(strict, written)).toThrow(message);
  });

  it('accepts what the method accepts', () => {
    checkOptions(strict, { bits: 2, targets: ['**'], overrides: { '**.o_proj': { mode: 'b' } } });
    checkOptions(methodOf(z.looseObject({ bits: z.int() })), { bits: 2, other: true });
  });

  it('leaves to the method what its schema cannot describe', () => {
    checkOptions(methodOf(z.strictObject({ pick: z.custom<string>(() => false) })), { pick: 1, other: 2 });
    checkOptions(methodOf(z.strictObject({ low: z.int(), high: z.int() }).refine(({ low, high }) => low < high)), { low: 2, high: 1 });
    checkOptions(methodOf({ '~standard': { version: 1, vendor: 'none', validate: () => ({ issues: [{ message: 'no' }] }) } }), { a: 1 });
  });
});

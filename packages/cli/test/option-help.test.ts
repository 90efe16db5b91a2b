// Help text from option schemas.
import { defineMethod } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { describeOptions, methodHelp } from '../src/option-help.js';

const options = z.strictObject({
  bits: z.int().min(1).max(8).default(4).describe('bits of a code'),
  clip: z.enum(['minmax', 'mse']).default('minmax').describe('how the range is chosen'),
  groupSize: z.union([z.int().positive(), z.literal('row')]).default(32),
  dampening: z.number().min(0).optional(),
  layers: z.array(z.string()),
});
const { definition } = defineMethod({ name: 'sample', version: 3, description: 'a method for this test', options });

describe('describeOptions', () => {
  it('reads types, bounds, defaults and descriptions from the schema', () => {
    expect(describeOptions(definition)).toEqual([
      { name: 'bits', type: 'integer 1 to 8', default: '4', isRequired: false, description: 'bits of a code' },
      { name: 'clip', type: '"minmax" | "mse"', default: '"minmax"', isRequired: false, description: 'how the range is chosen' },
      { name: 'groupSize', type: 'integer > 0 | "row"', default: '32', isRequired: false, description: '' },
      { name: 'dampening', type: 'number ≥ 0', default: undefined, isRequired: false, description: '' },
      { name: 'layers', type: 'list of string', default: undefined, isRequired: true, description: '' },
    ]);
  });

  it('says so where a schema library cannot describe itself', () => {
    const bare = { '~standard': { version: 1, vendor: 'none', validate: (value: unknown) => ({ value }) } } as const;
    const plain = defineMethod({ name: 'plain', version: 1, options: bare }).definition;
    expect(describeOptions(plain)).toBeUndefined();
    expect(methodHelp(plain)).toContain('does not describe its options');
  });
});

it('methodHelp prints a line an option', () => {
  const lines = methodHelp(definition).split('\n');
  expect(lines[0]).toBe('sample (version 3): a method for this test');
  expect(lines[1]).toMatch(/^ {2}bits +integer 1 to 8 = 4 +bits of a code$/);
  expect(lines[5]).toMatch(/^ {2}layers +list of string, required$/);
});

// The option shapes that weight quantizers share: defaults, limits and help texts.
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { checkGroups, clipOption, gridOptions } from '../src/index.js';

describe('gridOptions', () => {
  const schema = z.strictObject(gridOptions);

  it('has a default for everything', () => {
    expect(schema.parse({})).toEqual({ bits: 4, groupSize: 32, symmetric: false, clip: 'minmax', scaleDtype: 'float16' });
    expect(clipOption('mse').parse(undefined)).toBe('mse');
  });

  it('describes every option for help texts', () => {
    const { properties } = z.toJSONSchema(schema, { io: 'input' });
    for (const [name, property] of Object.entries(properties ?? {})) {
      expect(property, name).toMatchObject({ description: expect.stringMatching(/\w/), default: expect.anything() });
    }
  });

  it.each([
    { bits: 0 },
    { bits: 9 },
    { bits: 2.5 },
    { groupSize: 0 },
    { groupSize: -2 },
    { clip: 'none' },
    { scaleDtype: 'float8' },
    { gruopSize: 3 },
  ])('refuses %o', (options) => {
    expect(schema.safeParse(options).success).toBe(false);
  });
});

describe('checkGroups', () => {
  it('accepts what divides and −1', () => {
    for (const size of [1, 4, 16, -1]) expect(() => checkGroups({ path: 'a', inFeatures: 16 }, size)).not.toThrow();
  });

  it('says where, what, and which sizes fit', () => {
    expect(() => checkGroups({ path: 'model.layers.0.mlp.gate_proj', inFeatures: 16 }, 24)).toThrow(
      'GROUP_SIZE: model.layers.0.mlp.gate_proj: 16 inputs do not divide into groups of 24; use 16, -1 (one group per output channel)',
    );
    expect(() => checkGroups({ path: 'a', inFeatures: 288 }, 128)).toThrow(/use 16, 32, 96, -1/);
  });
});

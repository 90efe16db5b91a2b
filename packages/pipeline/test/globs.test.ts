// Globs over dotted paths.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileGlob } from '../src/index.js';

const matches = (glob: string, path: string): boolean => compileGlob(glob)(path);

describe('compileGlob', () => {
  it.each([
    ['**', 'model.layers.0.mlp.up_proj', true],
    ['**.down_proj', 'model.layers.3.mlp.down_proj', true],
    ['**.down_proj', 'model.layers.3.mlp.up_proj', false],
    ['model.layers.*.mlp.*', 'model.layers.11.mlp.gate_proj', true],
    ['model.layers.*.mlp.*', 'model.layers.11.self_attn.q_proj', false],
    ['model.layers.*', 'model.layers.0.mlp.up_proj', false],
    ['**.{q,k,v}_proj', 'model.layers.0.self_attn.k_proj', true],
    ['**.{q,k,v}_proj', 'model.layers.0.self_attn.o_proj', false],
    ['model.layers.{8..12}.**', 'model.layers.10.mlp.up_proj', true],
    ['model.layers.{8..12}.**', 'model.layers.2.mlp.up_proj', false],
    ['model.layers.{8..12}.**', 'model.layers.7.mlp.up_proj', false],
    ['model.layers.[01].**', 'model.layers.1.mlp.up_proj', true],
    ['model.layers.1?.**', 'model.layers.12.mlp.up_proj', true],
    ['**.mlp.!(down)_proj', 'model.layers.0.mlp.up_proj', true],
    ['up_proj', 'model.layers.0.mlp.up_proj', false],
  ])('%s on %s: %s', (glob, path, expected) => expect(matches(glob, path)).toBe(expected));

  it('takes a path without special characters for itself alone', () => {
    const name = fc.stringMatching(/^[a-z0-9_]{1,6}$/);
    const path = fc.array(name, { minLength: 1, maxLength: 5 }).map((names) => names.join('.'));
    fc.assert(fc.property(path, path, (a, b) => matches(a, a) && matches(a, b) === (a === b)));
  });

  it('refuses an empty glob', () => expect(() => compileGlob(' ')).toThrow(expect.objectContaining({ code: 'GLOB_INVALID' })));
});

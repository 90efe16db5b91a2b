// The forms that prompts are timed on: the same model in another precision, with every quantized layer in integers where that is asked for.
import { existsSync } from 'node:fs';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, createRng, type Model, readFloats, tensor } from '@lowbit/core';
import { runsInIntegers } from '@lowbit/quant';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { executions, firstTokens, layersInIntegers, openForm, prefillTimes, randomLlama, withForms } from '../src/speed/quad-prefill.js';
import { slowerThanFloat } from '../src/speed/quad-prefill-report.js';

const model = randomLlama(128);
const vocabulary = model.config.vocabularySize;

let backend: Backend;
beforeAll(async () => {
  backend = await createOnnxBackend({ threads: 1 });
});
afterAll(() => backend.dispose());

/** Logits of some tokens, all positions. */
async function logitsOf(from: Model): Promise<Float32Array> {
  const tokens = tensor(createRng(1).integers(2 * 8, vocabulary), [2, 8]);
  const [logits] = await backend.evaluate([from.forward(tokens)]);
  return readFloats(logits);
}

/** ‖a − b‖ / ‖b‖. */
function distance(a: Float32Array, b: Float32Array): number {
  const norm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return norm(a.map((value, i) => value - b[i])) / norm(b);
}

describe('forms of a model', () => {
  it('compute the model as it is, nearly that in 8 bits, and the same in integers as simulated; nothing is left of their files', async () => {
    let left = '';
    await withForms(backend, model, async (directory) => {
      left = directory;
      const logits = new Map<string, Float32Array>();
      for (const execution of executions) {
        const form = await openForm(backend, directory, execution);
        logits.set(execution, await logitsOf(form));
        const integers = form.blocks.flatMap(({ linears }) => Object.values(linears).map(runsInIntegers));
        expect(integers).toEqual(integers.map(() => execution.endsWith('integers')));
      }
      const of = (execution: string): Float32Array => logits.get(execution) as Float32Array;
      expect(executions).toEqual(['float', 'W4A4 simulated', 'W4A4 integers', 'W8A8 simulated', 'W8A8 integers']);
      expect(distance(of('float'), await logitsOf(model))).toBeLessThan(1e-6);
      const [eight, four] = ['W8A8', 'W4A4'].map((format) => distance(of(`${format} simulated`), of('float')));
      expect(eight).toBeGreaterThan(1e-5);
      expect(eight).toBeLessThan(0.1);
      expect(four).toBeGreaterThan(2 * eight);
      // A sum that falls to the other side of a rounding is a step of its grid.
      for (const format of ['W8A8', 'W4A4']) {
        expect(distance(of(`${format} integers`), of(`${format} simulated`))).toBeLessThan(0.5 * (format === 'W8A8' ? eight : four));
      }
      expect(await layersInIntegers(directory)).toEqual({ integer: 14, all: 15 });
      const [measured] = await prefillTimes(backend, directory, [{ batch: 2, tokens: 5 }], 1);
      expect(Object.keys(measured.times)).toEqual([...executions]);
      for (const time of Object.values(measured.times)) expect(time).toBeGreaterThan(0);
    });
    expect(existsSync(left)).toBe(false);
  });

  it('give one token for each prompt, which must leave room for it', async () => {
    const tokens = await firstTokens(backend, model, { batch: 3, tokens: 6 });
    expect(tokens.map(({ length }) => length)).toEqual([1, 1, 1]);
    await expect(firstTokens(backend, model, { batch: 1, tokens: model.config.contextLength })).rejects.toMatchObject({
      code: 'CONTEXT_LENGTH',
    });
  });
});

describe('what is slower than float', () => {
  const times = (simulated: number) => ({
    batch: 1,
    tokens: 8,
    times: { float: 10, 'W4A4 simulated': simulated, 'W4A4 integers': 9, 'W8A8 simulated': 10, 'W8A8 integers': 8 },
  });

  it('is named with the ratios of the sizes in which it is', () => {
    expect(slowerThanFloat([times(9), times(12.5), times(20)])).toBe('W4A4 simulated (1.25 to 2.00 times, 2 of 3 sizes)');
    expect(slowerThanFloat([times(15)])).toBe('W4A4 simulated (1.50 times, 1 of 1 sizes)');
    expect(slowerThanFloat([times(10)])).toBe('none');
  });
});

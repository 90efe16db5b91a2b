// Rounding to float16 in a graph: every number of the format, its midpoints, and random ones.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { decodeFloat16, grad, mul, readFloats, roundToFloat16, sum, tensor } from '@lowbit/core';
import fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { halfRounded } from '../src/index.js';

const backends = [createReferenceBackend(), await createOnnxBackend({ threads: 1, spin: false })] as const;
afterAll(() => backends[1].dispose());

const expected = (values: Float32Array): Float32Array => values.map((x) => Math.max(-65504, Math.min(65504, roundToFloat16(x))));

/** Every finite number, the points halfway to the next ones, and their neighbours in float32. */
function delicate(): Float32Array {
  const numbers = decodeFloat16(Uint16Array.from({ length: 0x7c00 }, (_, bits) => bits));
  const halfway = numbers.slice(1).map((x, i) => (x + numbers[i]) / 2);
  const bits = new Int32Array(halfway.buffer);
  const beside = [-1, 1].map((step) => new Float32Array(bits.map((word) => word + step).buffer));
  const all = [numbers, halfway, ...beside].flatMap((values) => [...values]);
  return Float32Array.from([...all, ...all.map((x) => -x), 65519, 65520, 1e6, -1e38]);
}

it.each(backends)('is float16 bit for bit, ties to even (%#)', async (backend) => {
  const values = delicate();
  const [rounded] = await backend.evaluate([halfRounded(tensor(values))]);
  const [actual, wanted] = [await readFloats(rounded), expected(values)];
  expect(values.filter((_, i) => actual[i] !== wanted[i])).toEqual(new Float32Array());
});

it('is float16 for any float32 numbers, and lets gradients pass', async () => {
  const numbers = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 1, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(numbers, async (array) => {
      const x = tensor(array);
      const factors = tensor(array.map((_, i) => i + 1));
      const [rounded, gradient] = await backends[0].evaluate([halfRounded(x), ...grad(sum(mul(halfRounded(x), factors)), [x])]);
      expect([...(await readFloats(rounded))].map(Math.abs)).toEqual([...expected(await readFloats(x))].map(Math.abs));
      expect(await readFloats(gradient)).toEqual(await readFloats(factors));
    }),
    { numRuns: 50 },
  );
});

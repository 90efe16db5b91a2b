// What graphs of models do not have, on a backend as on the reference: tensors without elements, and bytes and bools where kernels are missing.
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  add,
  argmax,
  arrayTypes,
  type Backend,
  cast,
  concat,
  type DType,
  less,
  lessEqual,
  logSoftmax,
  matmul,
  read,
  reshape,
  rmsNorm,
  softmax,
  sum,
  type Tensor,
  tensor,
  where,
} from '@lowbit/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const bytes = (dtype: DType, values: readonly number[]): Tensor => tensor(new arrayTypes[dtype](values), [values.length], dtype);
const empty = (...shape: readonly number[]): Tensor => tensor(new Float32Array(0), shape);
const ramp = tensor([1, 2, 3, 4]);

const cases: Readonly<Record<string, () => Tensor>> = {
  'a reshape of nothing to other axes': () => reshape(add(empty(0, 4), 1), [2, 0]),
  'a reshape of nothing to more axes': () => reshape(add(empty(4, 0), 1), [0, 2, 8]),
  'softmax of no rows': () => softmax(empty(0, 3)),
  'logSoftmax of no rows': () => logSoftmax(empty(0, 3)),
  'argmax of no rows': () => argmax(empty(0, 3)),
  'a product of no rows': () => matmul(empty(0, 3, 4), reshape(ramp, [1, 4]), { transposeB: true }),
  'a product over nothing': () => matmul(empty(2, 0), empty(0, 3)),
  'a norm of no rows': () => rmsNorm(empty(0, 4), ramp, { epsilon: 1e-5 }),
  'a sum of no rows': () => sum(empty(0, 3), [0]),
  'something after nothing': () => concat([add(empty(0, 4), 1), reshape(ramp, [1, 4])], 0),
  'uint8 as int8 saturates': () => cast(bytes('uint8', [0, 127, 128, 255]), 'int8'),
  'int8 as uint8 saturates': () => cast(bytes('int8', [-128, -1, 0, 127]), 'uint8'),
  'int8 chosen by elements': () => where(less(ramp, 3), bytes('int8', [-128, -1, 5, 6]), bytes('int8', [1, 2, -3, 127])),
  'bools chosen by elements': () => where(less(ramp, 3), bytes('bool', [0, 1, 0, 1]), bytes('bool', [1])),
  'less of bools': () => less(bytes('bool', [0, 1, 0, 1]), bytes('bool', [0, 0, 1, 1])),
  'lessEqual of bools': () => lessEqual(bytes('bool', [0, 1, 0, 1]), bytes('bool', [0, 0, 1, 1])),
};

/** Checks a backend on all of them. */
export function describeUnusualInputs(name: string, create: () => Promise<Backend>): void {
  describe(`${name} computes as the reference`, () => {
    const reference = createReferenceBackend();
    let backend: Backend;
    beforeAll(async () => {
      backend = await create();
    });
    afterAll(() => backend.dispose());

    it.each(Object.entries(cases))('%s', async (_, build) => {
      const [actual] = await backend.evaluate([build()]);
      const [expected] = await reference.evaluate([build()]);
      expect([actual.shape, actual.dtype]).toEqual([expected.shape, expected.dtype]);
      expect(await read(actual)).toEqual(await read(expected));
    });
  });
}

// Updates in portions, after gradients that were computed: to the bit those of all parameters at once.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { add, createRng, grad, readFloats, readNumber, square, sub, sum, type Tensor, tensor } from '@lowbit/core';
import { expect, it } from 'vitest';
import { adam, constantRate, type Indexed, type NamedTensors, type StagedLoss, sgd, train } from '../src/index.js';

it('updates large parameters one by one, small ones together, to the same bits as all at once', async () => {
  const shapes = { large: [130, 128], small: [3, 4], larger: [150, 128], least: [5] };
  const named = (seed: number): NamedTensors =>
    new Map(
      Object.entries(shapes).map(([name, shape]) => {
        const values = createRng(seed)
          .at(name)
          .normal(shape.reduce((a, b) => a * b));
        return [name, tensor(values, shape)];
      }),
    );
  const errorOf = (parameters: NamedTensors, targets: NamedTensors): Tensor =>
    [...parameters].map(([name, t]) => sum(square(sub(t, targets.get(name) as Tensor)))).reduce((a, b) => add(a, b));
  const engine = await createOnnxBackend({ threads: 1, spin: false });
  const staged: StagedLoss<NamedTensors> = {
    value: async (parameters, targets) => readNumber((await engine.evaluate([errorOf(parameters, targets)]))[0]),
    async gradients(parameters, targets) {
      const loss = errorOf(parameters, targets);
      const [value, ...found] = await engine.evaluate([loss, ...grad(loss, [...parameters.values()])]);
      return { loss: await readNumber(value), gradients: new Map([...parameters.keys()].map((name, i) => [name, found[i]])) };
    },
  };
  const targets: Indexed<NamedTensors> = { length: 2, at: (index) => named(10 + index) };
  for (const optimizer of [adam({ clipNorm: 1, weightDecay: 0.1 }), sgd({ momentum: 0.9, clipNorm: 1 }), sgd()]) {
    const shared = { backend: engine, parameters: named(1), optimizer, batches: targets, epochs: 2, learningRate: constantRate(0.1) };
    const inParts = await train({ ...shared, lossOf: staged });
    const atOnce = await train({ ...shared, lossOf: errorOf });
    expect(inParts.losses).toEqual(atOnce.losses);
    for (const [name, t] of inParts.parameters)
      expect(await readFloats(t), name).toEqual(await readFloats(atOnce.parameters.get(name) as Tensor));
  }
  await engine.dispose();
});

// What stays on a WebGPU device: weights between evaluations, and all nodes of a block's graph.
import {
  add,
  cast,
  createRng,
  grad,
  mean,
  mul,
  read,
  reshape,
  round,
  sign,
  square,
  structureOf,
  sub,
  sum,
  type Tensor,
  tensor,
  where,
} from '@lowbit/core';
import { createToyModel } from '@lowbit/testkit';
import * as ort from 'onnxruntime-node';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { swiftShaderEnvironment, withoutSwiftShader } from '../../../test/swiftshader.js';
import { compareWithProcessor } from '../src/choose-provider.js';
import { createOnnxBackend } from '../src/index.js';
import { kernelsFor } from '../src/kernels.js';
import { compile } from '../src/program.js';

const rng = createRng(7);
const normal = (name: string, shape: readonly number[]): Tensor => tensor(rng.at(name).normal(shape.reduce((a, b) => a * b, 1)), shape);

/** What has been copied to the device and not been freed. */
function liveBuffers(): ReadonlySet<object> {
  const live = new Set<object>();
  const fromGpuBuffer = ort.Tensor.fromGpuBuffer.bind(ort.Tensor);
  vi.spyOn(ort.Tensor, 'fromGpuBuffer').mockImplementation((buffer, options) => {
    live.add(buffer);
    const dispose = (): void => {
      live.delete(buffer);
      options.dispose?.();
    };
    return fromGpuBuffer(buffer, { ...options, dispose });
  });
  return live;
}

/** A copy is freed a turn of the loop after the evaluation. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe.skipIf(!swiftShaderEnvironment)(`WebGPU on SwiftShader${withoutSwiftShader}`, () => {
  afterEach(() => void vi.restoreAllMocks());

  it('copies each weight once that a loop of steps does not change, and holds no more after 100 steps than after 10', async () => {
    const buffers = liveBuffers();
    const backend = await createOnnxBackend({ provider: 'webgpu', threads: 1 });
    const frozen = [normal('a', [64, 80]), normal('b', [64, 80])];
    let trained = normal('c', [64, 80]);
    const held: number[][] = [];
    for (let step = 1; step <= 100; step++) {
      const loss = sum(square(sub(add(frozen[0], trained), frozen[1])));
      const [next] = await backend.evaluate([sub(trained, mul(grad(loss, [trained])[0], 0.01))], { release: [trained] });
      trained = next;
      await settled();
      held.push([buffers.size, backend.statistics.resident?.bytes ?? 0]);
    }
    // Two frozen ones, and the trained one, which is another one at each step.
    expect(backend.statistics.resident?.uploads).toBe(2 + 100);
    expect(held[99]).toEqual(held[9]);
    expect(held[99]).toEqual([2, 2 * 4 * 64 * 80]);
    await backend.dispose();
    await settled();
    expect([buffers.size, backend.statistics.resident?.bytes]).toEqual([0, 0]);
  });

  it('gives up the copies that were not used for longest, and reads right what it copies anew', async () => {
    const size = 64 * 80;
    const backend = await createOnnxBackend({ provider: 'webgpu', threads: 1, deviceBytes: 2 * 4 * size });
    const leaves = [1, 2, 3].map((value) => tensor(new Float32Array(size).fill(value), [64, 80]));
    const sums: number[] = [];
    for (const i of [0, 1, 2, 0, 2]) {
      const [y] = await backend.evaluate([sum(leaves[i])]);
      sums.push(y.source.kind === 'leaf' && y.source.data ? y.source.data[0] / size : Number.NaN);
      expect(backend.statistics.resident?.bytes).toBeLessThanOrEqual(2 * 4 * size);
    }
    // 1, 2, 3, and 1 again, for which 2 went.
    expect(backend.statistics.resident?.uploads).toBe(4);
    // An evaluation reads what it needs, and what is too much leaves after it.
    const all = await backend.evaluate([sum(add(add(leaves[0], leaves[1]), leaves[2]))]);
    expect((await read(all[0]))[0] / size).toBe(6);
    expect(backend.statistics.resident?.bytes).toBe(2 * 4 * size);
    expect(sums).toEqual([1, 2, 3, 1, 3]);
    await backend.dispose();
  });

  it('is left by auto, since it is slower than the processor, after little of it', async () => {
    const options = { intraOpNumThreads: 1, logSeverityLevel: 4 } as const;
    const { isFaster, measured } = await compareWithProcessor('webgpu', options);
    expect(isFaster).toBe(false);
    expect(measured).toMatch(/^a \d+-cube matmul takes [\de.+]+ ms on webgpu and [\de.+-]+ ms on cpu$/);
  });

  it('keeps bytes, integers and bools as they are, whatever their number', async () => {
    const backend = await createOnnxBackend({ provider: 'webgpu', threads: 1 });
    const count = 2 ** 16 + 3;
    const drawn = createRng(8).integers(count, 256);
    const bytes = tensor(Uint8Array.from(drawn));
    const integers = tensor(Int32Array.from(drawn, (value) => 2 ** 24 + value));
    const bools = tensor(
      Uint8Array.from(drawn, (value) => value % 2),
      [count],
      'bool',
    );
    for (let turn = 0; turn < 2; turn++) {
      const [a, b, c] = await backend.evaluate([cast(bytes, 'float32'), add(integers, 1), where(bools, 1, 2)]);
      expect(Array.from(await read(a))).toEqual(Array.from(drawn));
      expect(Array.from(await read(b))).toEqual(Array.from(drawn, (value) => 2 ** 24 + value + 1));
      expect(Array.from(await read(c))).toEqual(Array.from(drawn, (value) => (value % 2 === 1 ? 1 : 2)));
    }
    expect(backend.statistics.resident?.uploads).toBe(3);
    await backend.dispose();
  });

  it('rounds half to even up to where floats have no halves, and leaves what is no number', async () => {
    const backend = await createOnnxBackend({ provider: 'webgpu', threads: 1 });
    const values = [0.5, 1.5, -2.5, -0.3, 2 ** 22 + 0.5, 2 ** 22 + 1.5, -(2 ** 23 - 0.5), 2 ** 23 + 1, 1e20, Infinity, -Infinity, NaN];
    const [y] = await backend.evaluate([round(tensor(values))]);
    const expected = [0, 2, -2, -0, 2 ** 22, 2 ** 22 + 2, -(2 ** 23), 2 ** 23 + 1, Math.fround(1e20), Infinity, -Infinity, NaN];
    expect(Array.from(await read(y))).toEqual(expected);
    const [signs] = await backend.evaluate([sign(tensor([-3, -0, 0, 1e-30, Infinity]))]);
    expect(Array.from(await read(signs), Math.abs)).toEqual([1, 0, 0, 1, 1]);
    await backend.dispose();
  });

  it("runs a Llama block and its gradients without the processor's kernels", async () => {
    const { blocks, config } = createToyModel();
    const x = normal('x', [1, 8, config.hiddenSize]);
    const weights = Object.values(blocks[0].linears).flatMap((linear) => Object.values(linear.state().tensors));
    const output = blocks[0].forward(x);
    const roots = [output, ...grad(mean(square(reshape(output, [-1]))), [x, ...weights])];
    const kernels = kernelsFor('webgpu');
    const options = { executionProviders: ['webgpu'], logSeverityLevel: 4, extra: { session: { disable_cpu_ep_fallback: '1' } } } as const;
    const program = await compile(structureOf(roots, kernels), kernels, options);
    await program.release();
  });
});

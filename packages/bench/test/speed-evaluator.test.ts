// Speed and memory as scores: what they say they were measured on is what was run.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { type EvaluatorName, evaluatorsOf } from '../src/index.js';
import { syntheticLlama } from '../src/speed/llama.js';

const names: EvaluatorName[] = ['speed', 'memory'];
const backend = await createOnnxBackend({ threads: 1 });
afterAll(() => backend.dispose());

describe('speed and memory', () => {
  it.each([
    [300, 128, 33],
    [40, 20, 20],
  ])('of a context of %d are over a prompt of %d tokens and %d new ones', async (context, promptTokens, newTokens) => {
    const evaluate = vi.spyOn(backend, 'evaluate');
    const model = syntheticLlama({ width: 8, inner: 12, blocks: 1, heads: 2, vocabulary: 24, context });
    const steps: [number, number][] = [];
    const [speed, memory] = evaluatorsOf(names, {});
    const scores = await speed.evaluate(model, { backend, progress: (done, total) => steps.push([done, total]) });
    // Six rounds, of which the first is not counted.
    expect(evaluate).toHaveBeenCalledTimes(6 * newTokens);
    evaluate.mockRestore();
    expect(steps).toEqual([0, 1, 2, 3, 4, 5].map((round) => [round, 5]));
    expect(scores.map(({ evaluator }) => evaluator)).toEqual(['prefill-tokens-per-second', 'decode-tokens-per-second']);
    const run = backend.evaluate.bind(backend);
    let resident = 0;
    const holding = vi.spyOn(backend, 'evaluate').mockImplementation((...args) => {
      if (resident === 0) {
        // What is held here alone is part of the peak, and seldom of what is resident at the end.
        const held = new Uint8Array(2 ** 26).fill(1);
        resident = process.memoryUsage.rss() + held[0] - 1;
      }
      return run(...args);
    });
    const [peak] = await memory.evaluate(model, { backend });
    const since = process.resourceUsage().maxRSS / 2 ** 10;
    holding.mockRestore();
    expect(peak).toMatchObject({ evaluator: 'peak-rss-mib', samples: 1, stderr: 0, higherIsBetter: false });
    for (const { value, samples, higherIsBetter, stderr } of scores) {
      expect(value).toBeGreaterThan(0);
      expect(stderr).toBeGreaterThanOrEqual(0);
      expect({ value: Number.isFinite(value), samples, higherIsBetter }).toEqual({ value: true, samples: 5, higherIsBetter: true });
    }
    for (const { protocol } of [...scores, peak]) {
      expect(protocol).toMatchObject({ promptTokens, newTokens, sequences: 1, backend: backend.name });
    }
    // The kernel counts pages of threads in batches, so that two readings of one moment may be some MiB apart.
    expect(peak.value).toBeGreaterThanOrEqual(resident / 2 ** 20 - 16);
    expect(peak.value).toBeLessThanOrEqual(since + 16);
  });
});

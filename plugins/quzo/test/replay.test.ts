// The log of a run: it rebuilds the run's result bit for bit, and says so where it cannot.
import { createHash } from 'node:crypto';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, type Model, type Recipe, type RunEvent, read, tensorsOf } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { LOG_FILE, parseLog, type QuzoInput, quzo, replayLog, type Trajectory } from '../src/index.js';
import { logLines } from '../src/log/text.js';

/** Wide enough that products of matrices are shared among threads. */
const dense = createToyModel({ seed: 5, hiddenSize: 96, innerSize: 160, headCount: 4, vocabularySize: 256 });
const calibration = createToyTokens({ seed: 6, vocabularySize: 256, batchCount: 3, batchSize: 2, tokens: 24 });

const engines: Readonly<Record<string, Backend>> = {
  one: await createOnnxBackend({ threads: 1, spin: false }),
  two: await createOnnxBackend({ threads: 2, spin: false }),
};
afterAll(() => Promise.all(Object.values(engines).map((engine) => engine.dispose())));

interface Tuned {
  /** What the run of quzo was given. */
  readonly base: Model;
  readonly made: Model;
  /** Text of the log. */
  readonly log: string;
}

const int = (bits: number): Recipe => [rtn({ bits, groupSize: 32 })];

async function tune(backend: Backend, before: Recipe, options: QuzoInput, seed = 7): Promise<Tuned> {
  const base = before.length > 0 ? (await quantize({ model: dense, backend, recipe: before })).model : dense;
  const files: string[] = [];
  const onEvent = (event: RunEvent): void => {
    if (event.type !== 'log' || event.record['file'] !== LOG_FILE) return;
    files.push((event.record['lines'] as readonly object[]).map((line) => `${JSON.stringify(line)}\n`).join(''));
  };
  const recipe = [quzo({ steps: 4, batchWindows: 2, judgeEvery: 4, keepBest: false, ...options })];
  const { model: made } = await quantize({ model: base, backend, recipe, calibration, seed, onEvent });
  expect(files).toHaveLength(1);
  return { base, made, log: files[0] };
}

/** Hashes of the bytes of all tensors, by name. */
async function bitsOf(model: Model): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const [name, t] of tensorsOf(model)) {
    const { buffer, byteOffset, byteLength } = await read(t);
    found.set(
      name,
      createHash('sha256')
        .update(new Uint8Array(buffer, byteOffset, byteLength))
        .digest('hex'),
    );
  }
  return found;
}

async function replay(base: Model, text: string): Promise<Model> {
  const { trajectory, end } = parseLog(text, 'log');
  return replayLog(base, trajectory, { end });
}

const sets: Readonly<Record<string, readonly [Recipe, QuzoInput]>> = {
  'codes with a carry': [int(8), { learningRate: 300 }],
  'codes with a carry of 16 bits': [int(4), { epsilon: 0.1, carry: '16-bit', learningRate: 30 }],
  'codes with a carry that is rebuilt': [int(4), { epsilon: 0.1, carry: 'replay', carryWindow: 2, queries: 2, learningRate: 30 }],
  'codes rounded at random, gaussian directions': [int(4), { rounding: 'sr', distribution: 'gaussian', epsilon: 0.3, learningRate: 30 }],
  'two roundings, several queries': [int(8), { estimator: 'rge2', distribution: 'gaussian', queries: 3, learningRate: 100 }],
  'scales, clipped': [int(4), { preset: 'qzo-int4', learningRate: 1e-4 }],
  'new adapters': [int(4), { preset: 'zo-lora-int4', learningRate: 0.05, rank: 2 }],
  'dense weights of which the small ones are trained': [[], { preset: 'mezo', learningRate: 1e-3, sparsity: 0.7, weightDecay: 0.01 }],
};

describe.each(Object.entries(sets))('%s', (_, [before, options]) => {
  it.each(Object.keys(engines))('are rebuilt bit for bit, in either order of the tensors, with %s thread(s)', async (engine) => {
    const { base, made, log } = await tune(engines[engine], before, options);
    const [rebuilt, wanted] = [await bitsOf(await replay(base, log)), await bitsOf(made)];
    expect(rebuilt).toEqual(wanted);
    expect(rebuilt).not.toEqual(await bitsOf(base));
    const { trajectory, end } = parseLog(log, 'log');
    const turned = { ...trajectory, parameters: trajectory.parameters.toReversed(), adapters: trajectory.adapters.toReversed() };
    expect(await bitsOf(await replayLog(base, turned, { end }))).toEqual(wanted);
  });
});

describe('a run that is stopped', () => {
  it('leaves a log of the steps that it took, which leads where those steps alone do', async () => {
    const options: QuzoInput = { steps: 6, schedule: 'constant', batchWindows: 2, judgeEvery: 6, keepBest: false, learningRate: 300 };
    const backend = engines['one'];
    const { model: base } = await quantize({ model: dense, backend, recipe: int(8) });
    const controller = new AbortController();
    const logs: string[] = [];
    const onEvent = (event: RunEvent): void => {
      if (event.type === 'progress' && event.done === 4) controller.abort();
      if (event.type === 'log' && event.record['file'] === LOG_FILE) {
        logs.push((event.record['lines'] as readonly object[]).map((line) => JSON.stringify(line)).join('\n'));
      }
    };
    const stopped = quantize({ model: base, backend, recipe: [quzo(options)], calibration, seed: 7, onEvent, signal: controller.signal });
    await expect(stopped).rejects.toMatchObject({ code: 'ABORTED' });
    expect(logs).toHaveLength(1);
    expect(parseLog(logs[0], 'log').trajectory.records).toHaveLength(4);
    const { model: made } = await quantize({ model: base, backend, recipe: [quzo({ ...options, steps: 4 })], calibration, seed: 7 });
    expect(await bitsOf(await replay(base, logs[0]))).toEqual(await bitsOf(made));
  });
});

describe('a run that keeps its best state', () => {
  it('logs the steps that led there', async () => {
    // Far too large steps: no state is as good as the start, or an early one is.
    const { base, made, log } = await tune(engines['one'], int(8), { learningRate: 3e4, steps: 6, judgeEvery: 1, keepBest: true });
    const { trajectory } = parseLog(log, 'log');
    expect(trajectory.records.length).toBeLessThan(6);
    expect(await bitsOf(await replay(base, log))).toEqual(await bitsOf(made));
  });
});

describe('a log', () => {
  const tuned = tune(engines['one'], int(8), { learningRate: 300 });

  it('is what was written', () => {
    const mu = fc.array(fc.double({ noNaN: true, noDefaultInfinity: true }), { maxLength: 3 });
    fc.assert(
      fc.property(fc.array(mu, { maxLength: 5 }), fc.stringMatching(/^[0-9a-f]{16}$/), (slopes, end) => {
        const trajectory: Trajectory = {
          ...{ format: 'lowbit-quzo', version: 1, runSeed: 5, options: {}, adapters: [], parameters: [], start: 'ab' },
          // JSON has no −0.
          records: slopes.map((values, i) => ({ step: i + 1, mu: values.map((x) => x + 0) })),
        };
        const text = logLines({ trajectory, end }).map((line) => `${JSON.stringify(line)}\n`);
        expect(parseLog(text.join(''), 'log')).toEqual({ trajectory, end });
      }),
    );
  });

  it.each<[string, (lines: string[]) => string[], string]>([
    ['a line is cut', (lines) => lines.with(2, lines[2].slice(0, 12)), 'my.jsonl: line 3: is no JSON object'],
    ['a line is missing', (lines) => lines.toSpliced(2, 1), 'my.jsonl: line 3: is not the record of step 2'],
    ['two lines are swapped', (lines) => lines.with(1, lines[2]).with(2, lines[1]), 'my.jsonl: line 2: is not the record of step 1'],
    ['a derivative is no number', (lines) => lines.with(1, '{"step":1,"mu":["1"]}'), 'my.jsonl: line 2: is not the record of step 1'],
    ['its end is missing', (lines) => lines.slice(0, -1), 'the line that ends a log is missing'],
    ['it is empty', () => [''], 'my.jsonl: line 1: is no JSON object'],
    ['it has other steps than were written', (lines) => lines.toSpliced(4, 1), 'the log has 3 steps of 4'],
    ['it is of another version', (lines) => lines.with(0, lines[0].replace('"version":1', '"version":9')), 'version'],
  ])('says which line is damaged when %s', async (_, change, message) => {
    const lines = (await tuned).log.trimEnd().split('\n');
    const damaged = change(lines).join('\n');
    expect(() => parseLog(damaged, 'my.jsonl')).toThrow(expect.objectContaining({ code: 'REPLAY_LOG' }));
    expect(() => parseLog(damaged, 'my.jsonl')).toThrow(message);
  });

  const changes: Readonly<Record<string, (trajectory: Trajectory) => Trajectory>> = {
    'a derivative': (t) => ({ ...t, records: t.records.map(({ step, mu }) => ({ step, mu: mu.map((x) => -x) })) }),
    'an option': (t) => ({ ...t, options: { ...t.options, rounding: 'nearest' } }),
    'the setting of a tensor': (t) => ({ ...t, parameters: t.parameters.map((p) => ({ ...p, learningRate: 2 * p.learningRate })) }),
    'the seed': (t) => ({ ...t, runSeed: t.runSeed + 1 }),
  };
  it.each(Object.keys(changes))('does not lead to its end when %s has been changed', async (what) => {
    const { base, log } = await tuned;
    const { trajectory, end } = parseLog(log, 'log');
    await expect(replayLog(base, changes[what](trajectory), { end })).rejects.toMatchObject({ code: 'REPLAY_END' });
  });

  it('is refused on another model', async () => {
    const { base, made, log } = await tuned;
    await expect(replay(made, log)).rejects.toMatchObject({ code: 'REPLAY_MODEL' });
    await expect(replay(dense, log)).rejects.toMatchObject({ code: 'REPLAY_PARAMETER' });
    const [q, ...others] = base.blocks;
    await expect(replay(base.with({ blocks: [q.with({ norms: others[0].norms }), ...others] }), log)).rejects.toMatchObject({
      code: 'REPLAY_MODEL',
    });
  });

  it('of adapters is refused on other codes beneath them', async () => {
    const { log } = await tune(engines['one'], int(4), { preset: 'zo-lora-int4', rank: 2 });
    const { model: other } = await quantize({ model: dense, backend: engines['one'], recipe: int(8) });
    await expect(replay(other, log)).rejects.toMatchObject({ code: 'REPLAY_MODEL' });
  });

  it('stops when it is told to', async () => {
    const { base, log } = await tuned;
    const stopped = replayLog(base, parseLog(log, 'log').trajectory, { signal: AbortSignal.abort() });
    await expect(stopped).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

// The staged strategy on made-up numbers.
import { LowbitError } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { adviceReport, verdict } from '../src/advise/report.js';
import { advise, type Trial, type Workbench } from '../src/advise/strategy.js';
import { damaged, fake, kl, plan, tuner } from './advise-setting.js';

describe('advise', () => {
  it('tries all of a width before the next, and of those that meet the threshold takes the smallest, then the first', async () => {
    const bench = fake({ 'rtn-2': 0.05, 'gptq-2': 0.01 });
    const advice = await advise(plan, bench);
    expect(bench.attempted.map(({ name }) => name)).toEqual(['rtn-2', 'gptq-2']);
    expect(advice).toMatchObject({ best: { name: 'rtn-2', isMet: true, stage: 'quantize' }, made: 'model of rtn-2', damages: [] });
    const smaller = await advise(plan, fake({ 'rtn-2': 0.05, 'gptq-2': 0.09 }, { bitsPerWeight: { 'gptq-2': 2.25 } }));
    expect(smaller.best?.name).toBe('gptq-2');
  });

  it('goes to more bits before it trains', async () => {
    const bench = fake({ 'rtn-2': 5, 'gptq-2': 1, 'rtn-3': 0.1 });
    expect((await advise(plan, bench)).best).toMatchObject({ name: 'rtn-3', bits: 3, isMet: true });
    expect(bench.attempted).toHaveLength(3);
  });

  it('trains the worst parts of the nearest of the fewest bits, and more of them until it is met', async () => {
    const bench = fake({
      'rtn-2': 5,
      'gptq-2': 1,
      'rtn-3': 0.2,
      'gptq-2 + tuned on the worst 2 of 8': 0.5,
      'gptq-2 + tuned on the worst 4 of 8': 0.09,
    });
    const seen: Trial[] = [];
    const advice = await advise(plan, bench, { onTrial: (trial) => seen.push(trial) });
    expect(advice.best).toMatchObject({
      stage: 'train',
      bits: 2,
      isMet: true,
      steps: [
        { method: 'gptq', options: { bits: 2 } },
        { method: 'tune', options: { epochs: 1, targets: ['d.**', 'b.**', 'a.**', 'c.**'] } },
      ],
    });
    expect(bench.attempted.slice(3).map(({ name }) => name)).toEqual([
      'gptq-2 + tuned on the worst 2 of 8',
      'gptq-2 + tuned on the worst 4 of 8',
    ]);
    expect(seen).toEqual(advice.trials);
    expect(advice.damages).toEqual([{ bits: 2, recipe: 'gptq-2', parts: expect.anything() as unknown }]);
    expect(advice.damages[0].parts.map(({ path }) => path).join('')).toBe('dbacefgh');
  });

  it('gives a tuner only those of its overrides that match what it trains', async () => {
    const [k, q] = [{ epochs: 2 }, { epochs: 3 }];
    const steps = [{ method: 'tune', options: { epochs: 1, overrides: { '**.k_proj': k, 'a.q_proj': q, 'e.*': q } } }, { method: 'last' }];
    const bench = fake({
      'rtn-2': 5,
      'gptq-2': 1,
      'rtn-3': 'x',
      ...Object.fromEntries(['the worst 2 of 8', 'the worst 4 of 8', 'all 8'].map((what) => [`gptq-2 + tuned on ${what}`, 0.5])),
    });
    await advise({ ...plan, tuner: { ...tuner, steps } }, bench);
    const trained = bench.attempted.slice(3).map((recipe) => recipe.steps.slice(1));
    expect(trained.map(([tune]) => tune.options?.['overrides'])).toEqual([
      { '**.k_proj': k },
      { '**.k_proj': k, 'a.q_proj': q },
      { '**.k_proj': k, 'a.q_proj': q, 'e.*': q },
    ]);
    expect(trained[0][0].options).toMatchObject({ epochs: 1, targets: ['d.**', 'b.**'] });
    expect(trained[0][1]).toEqual({ method: 'last', options: { targets: ['d.**', 'b.**'] } });
  });

  it('trains every part in the end, and nothing that is no part, then the next width, and gives the nearest where nothing is met', async () => {
    const of = (start: string, ...values: number[]) => ({
      [`${start} + tuned on the worst 2 of 8`]: values[0],
      [`${start} + tuned on the worst 4 of 8`]: values[1],
      [`${start} + tuned on all 8`]: values[2],
    });
    const bench = fake({ 'rtn-2': 5, 'gptq-2': 1, 'rtn-3': 0.2, ...of('gptq-2', 0.8, 0.7, 0.6), ...of('rtn-3', 0.19, 0.15, 0.17) });
    const advice = await advise(plan, bench);
    expect(bench.attempted).toHaveLength(9);
    const all = [...'dbacefgh'].map((path) => `${path}.**`);
    expect(bench.attempted[5].steps[1]).toEqual({ method: 'tune', options: { epochs: 1, targets: all } });
    expect(advice.best).toMatchObject({ name: 'rtn-3 + tuned on the worst 4 of 8', isMet: false, value: 0.15 });
    expect(advice.made).toBe('model of rtn-3 + tuned on the worst 4 of 8');
  });

  it('makes a failure a trial and goes on; without any success it says why', async () => {
    const advice = await advise(plan, fake({ 'rtn-2': 'weights are not finite', 'gptq-2': 0.05 }));
    expect(advice.trials[0]).toMatchObject({ name: 'rtn-2', error: { code: 'NOT_FINITE' } });
    expect(advice.best?.name).toBe('gptq-2');
    const broken = await advise(
      { ...plan, threshold: kl(9) },
      fake({ 'rtn-2': Number.NaN, 'gptq-2': Number.POSITIVE_INFINITY, 'rtn-3': 1 }),
    );
    expect(broken.trials.slice(0, 2)).toMatchObject([{ error: { code: 'NOT_FINITE' } }, { error: { code: 'NOT_FINITE' } }]);
    expect(broken.best?.name).toBe('rtn-3');
    const all = await advise(plan, fake({ 'rtn-2': 'this', 'gptq-2': 'that', 'rtn-3': 'another' }));
    expect(all).toMatchObject({ best: undefined, made: undefined, damages: [] });
    expect(all.trials.map((trial) => 'error' in trial && trial.error.message)).toEqual([
      'NOT_FINITE: this',
      'NOT_FINITE: that',
      'NOT_FINITE: another',
    ]);
    expect(adviceReport(all, 'lowbit quantize x')).toMatch(/^kl at most 0\.1: no recipe could be tried\.\n/);
    expect(adviceReport(all, 'lowbit quantize x')).not.toContain('lowbit quantize x');
  });

  it('trains all parts where taking the model apart fails, and reports that it did', async () => {
    const damages = (): Promise<never> => Promise.reject(new LowbitError('SCORE_NAN', 'window 3 overflows'));
    const values = { 'rtn-2': 5, 'gptq-2': 1, 'rtn-3': 0.2, 'gptq-2 + tuned on all 8': 0.7, 'rtn-3 + tuned on all 8': 0.09 };
    const seen: Trial[] = [];
    const bench = fake(values, { damages });
    const { trials, best, damages: reports } = await advise(plan, bench, { onTrial: (trial) => seen.push(trial) });
    expect(best).toMatchObject({ name: 'rtn-3 + tuned on all 8', isMet: true });
    expect(bench.attempted[3].steps[1]).toEqual({
      method: 'tune',
      options: { epochs: 1, targets: damaged.flatMap((part) => part.targets) },
    });
    expect(trials[3]).toMatchObject({ stage: 'damage', name: 'gptq-2, one part at a time', error: { code: 'SCORE_NAN' } });
    expect(seen).toEqual(trials);
    expect(reports).toEqual([]);
  });

  it('says so where a recipe leaves nothing that could be trained', async () => {
    const bench = fake({ 'rtn-2': 5, 'gptq-2': 1, 'rtn-3': 2 }, { parts: () => [], damages: () => Promise.reject(new Error('asked')) });
    const { trials, best } = await advise(plan, bench);
    expect(bench.attempted).toHaveLength(3);
    expect(best).toMatchObject({ name: 'gptq-2', isMet: false });
    expect(trials.slice(3).map((trial) => [trial.name, 'error' in trial && trial.error.code])).toEqual([
      ['gptq-2, one part at a time', 'ADVISE_NO_PARTS'],
      ['rtn-3, one part at a time', 'ADVISE_NO_PARTS'],
    ]);
  });

  it('goes on where what is good enough is not so on fresh text', async () => {
    const values = { 'rtn-2': 0.05, 'gptq-2': 0.09, 'rtn-3': 0.08 };
    const bench = fake(values, { fresh: { 'rtn-2': 0.11, 'gptq-2': 0.12, 'rtn-3': 0.1 } });
    const { best, trials } = await advise(plan, bench);
    expect(best).toMatchObject({ name: 'rtn-3', value: 0.08, confirmed: { value: 0.1, stderr: 0.02 }, isMet: true });
    expect(trials.map((trial) => 'isMet' in trial && trial.isMet)).toEqual([false, false, true]);
    expect(bench.looked).toEqual(['rtn-2', 'gptq-2', 'rtn-3']);
    expect(verdict(await advise(plan, bench))).toMatch(
      / 3 models have been judged on the fresh text, so that it is less fresh to this one\.$/,
    );
    const second = await advise(plan, fake(values, { fresh: { 'rtn-2': 0.11 } }));
    expect(second.best?.name).toBe('gptq-2');
  });

  it('looks at fresh text for nothing but what is good enough, and takes the worse of both for how far it is', async () => {
    const train = { 'gptq-2 + tuned on the worst 2 of 8': 0.09, 'gptq-2 + tuned on the worst 4 of 8': 'x', 'gptq-2 + tuned on all 8': 'y' };
    const bench = fake({ 'rtn-2': 5, 'gptq-2': 1, 'rtn-3': 'z', ...train }, { fresh: { 'gptq-2 + tuned on the worst 2 of 8': 0.125 } });
    const advice = await advise(plan, bench);
    expect(bench.looked).toEqual(['gptq-2 + tuned on the worst 2 of 8']);
    expect(advice.best).toMatchObject({ isMet: false, value: 0.09, confirmed: { value: 0.125 } });
    expect(verdict(advice)).toBe(
      'kl at most 0.1: met by nothing that was tried. Nearest is gptq-2 + tuned on the worst 2 of 8: 0.09 ± 0.01 where it was chosen, 0.125 ± 0.02 on fresh text, at 2.50 bits/weight, 0.025 too much. That is within two standard errors of the threshold; more windows would tell.',
    );
    const broken = await advise(
      plan,
      fake({ 'rtn-2': 0.05, 'gptq-2': 0.05 }, { fresh: { 'rtn-2': 'a loss overflows', 'gptq-2': Number.NaN } }),
    );
    expect(broken.trials.slice(0, 2)).toMatchObject([{ error: { code: 'NOT_FINITE' } }, { error: { code: 'NOT_FINITE' } }]);
  });

  it('begins training where quantizing ended', async () => {
    const bench = fake({ 'rtn-2': 5, 'gptq-2': 1, 'rtn-3': 'x', 'gptq-2 + tuned on the worst 2 of 8': 0.05 });
    const { best } = await advise(plan, bench);
    expect(bench.beginnings).toEqual([undefined, undefined, undefined, { made: 'model of gptq-2', steps: 1, seconds: 3 }]);
    expect(best?.seconds).toBe(6);
  });

  it('stops when it is cancelled, during a trial as well', async () => {
    const abort = new AbortController();
    const stopping: Workbench<string> = {
      async attempt() {
        abort.abort();
        throw new Error('the engine was interrupted');
      },
      confirm: () => Promise.reject(new Error('nothing was good enough')),
      parts: () => damaged,
      damages: async () => damaged,
    };
    const trials: Trial[] = [];
    const run = advise(plan, stopping, { signal: abort.signal, onTrial: (trial) => trials.push(trial) });
    await expect(run).rejects.toMatchObject({ code: 'ABORTED' });
    expect(trials).toEqual([]);
  });

  it('keeps the model of the trial that it names, whatever the values', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 12, maxLength: 12 }), async (drawn) => {
        let next = 0;
        const bench: Workbench<number> = {
          attempt: async () => {
            const value = drawn[next++];
            return { made: value, bitsPerWeight: 2, value, stderr: 0, seconds: 0 };
          },
          confirm: async (made) => ({ value: made, stderr: 0 }),
          parts: () => damaged,
          damages: async () => damaged,
        };
        const { best, made, trials } = await advise(plan, bench);
        const values = trials.map((trial) => ('value' in trial ? trial.value : Number.NaN));
        expect(made).toBe(best?.value);
        expect(best?.isMet).toBe(values.some((value) => value <= 0.1));
        if (!best?.isMet) expect(best?.value).toBe(Math.min(...values));
      }),
    );
  });
});

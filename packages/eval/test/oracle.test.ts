// What the comparison with lm-evaluation-harness counts as agreement: everything that it prints.
import { describe, expect, it } from 'vitest';
import { agrees, type Comparison, missing } from '../oracle/comparison.js';

const same: Comparison = {
  ...{ task: 'arc_easy', shots: 0, metric: 'acc', ours: 0.25, theirs: 0.25, stderr: 0.03, theirStderr: 0.03 },
  ...{ difference: 1e-5, sameHashes: 1 },
};

describe('agreement with the harness', () => {
  it('is of values, standard errors, log-likelihoods and records', () => {
    expect(agrees(same)).toBe(true);
    expect(agrees({ ...same, theirs: 0.255 })).toBe(false);
    expect(agrees({ ...same, theirStderr: 0.031 })).toBe(false);
    expect(agrees({ ...same, theirStderr: Number.NaN })).toBe(false);
    expect(agrees({ ...same, difference: 0.01 })).toBe(false);
    expect(agrees({ ...same, difference: Number.NaN })).toBe(false);
    expect(agrees({ ...same, sameHashes: 0.995 })).toBe(false);
  });

  it('leaves errors by resampling to each side, and perplexities to their log-likelihoods', () => {
    expect(agrees({ ...same, metric: 'f1', theirStderr: 0.04 })).toBe(true);
    const perplexity: Comparison = { ...same, metric: 'perplexity', ours: 20, theirs: 20.001, stderr: 2, theirStderr: 2.1 };
    expect(agrees(perplexity)).toBe(true);
    expect(agrees({ ...perplexity, theirs: 20.1 })).toBe(false);
  });

  it('is of all that was asked', () => {
    const tasks = [
      { name: 'arc_easy', metrics: ['acc', 'acc_norm'] as const },
      { name: 'cola', metrics: ['mcc'] as const },
    ];
    expect(missing([], tasks, [0])).toHaveLength(3);
    const rows = [same, { ...same, metric: 'acc_norm' as const }, { ...same, shots: 2 }, { ...same, task: 'cola', metric: 'mcc' as const }];
    expect(missing(rows, tasks, [0])).toEqual([]);
    expect(missing(rows, tasks, [0, 2])).toEqual(['arc_easy/acc_norm with 2 shots', 'cola/mcc with 2 shots']);
  });
});

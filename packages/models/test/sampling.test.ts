// Sampling: the cumulative distribution inverted, and the sets that topK and topP leave.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sampleToken } from '../src/index.js';

const distribution = fc
  .array(fc.integer({ min: 1, max: 1000 }), { minLength: 1, maxLength: 40 })
  .map((counts) => Float32Array.from(counts, (count) => count / counts.reduce((a, b) => a + b, 0)));
const uniform = fc.integer({ min: 0, max: 2 ** 24 - 1 }).map((n) => n / 2 ** 24);

/** Tokens by falling probability, lower ids first. */
const ranked = (p: Float32Array): number[] => Array.from(p, (_, token) => token).sort((a, b) => p[b] - p[a] || a - b);

describe('sampleToken', () => {
  it('picks the token whose share of the cumulative distribution holds the uniform number', () => {
    fc.assert(
      fc.property(distribution, uniform, (p, u) => {
        const token = sampleToken(p, u);
        const total = p.reduce((a, b) => a + b, 0);
        const before = p.slice(0, token).reduce((a, b) => a + b, 0);
        expect(before).toBeLessThanOrEqual(u * total + 1e-6);
        expect(before + p[token]).toBeGreaterThan(u * total - 1e-6);
      }),
    );
  });

  it('takes each token as often as its probability says', () => {
    const p = Float32Array.of(0.5, 0, 0.125, 0.375);
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < 800; i++) counts[sampleToken(p, i / 800)]++;
    expect(counts).toEqual([400, 0, 100, 300]);
  });

  it('keeps to the K most probable tokens', () => {
    fc.assert(
      fc.property(distribution, uniform, fc.integer({ min: 1, max: 45 }), (p, u, topK) => {
        expect(ranked(p).slice(0, topK)).toContain(sampleToken(p, u, { topK }));
      }),
    );
  });

  it('is greedy with K = 1, and with a P that the most probable token reaches', () => {
    fc.assert(
      fc.property(distribution, uniform, (p, u) => {
        expect(sampleToken(p, u, { topK: 1 })).toBe(ranked(p)[0]);
        expect(sampleToken(p, u, { topP: 1e-6 })).toBe(ranked(p)[0]);
      }),
    );
  });

  it('keeps to the smallest set that reaches P, among the K most probable', () => {
    fc.assert(
      fc.property(
        distribution,
        uniform,
        fc.integer({ min: 1, max: 99 }),
        fc.option(fc.integer({ min: 1, max: 45 })),
        (p, u, percent, limit) => {
          const topP = percent / 100;
          const pool = ranked(p).slice(0, limit ?? p.length);
          const total = pool.reduce((sum, token) => sum + p[token], 0);
          let reached = 0;
          const nucleus = pool.filter((token) => {
            const isNeeded = reached < topP * total * (1 + 1e-6);
            reached += p[token];
            return isNeeded;
          });
          expect(nucleus).toContain(sampleToken(p, u, { topP, topK: limit ?? undefined }));
        },
      ),
    );
  });

  it('changes nothing with limits that keep everything, up to the order of tokens', () => {
    const p = Float32Array.of(0.4, 0.3, 0.2, 0.1);
    for (let i = 0; i < 100; i++) {
      expect(sampleToken(p, i / 100, { topK: 4 })).toBe(sampleToken(p, i / 100));
      expect(sampleToken(p, i / 100, { topP: 1 })).toBe(sampleToken(p, i / 100));
    }
  });

  it('refuses probabilities that are not numbers', () => {
    expect(() => sampleToken(Float32Array.of(NaN, 0.5), 0.3)).toThrow(/^LOGITS_NOT_FINITE: /);
  });
});

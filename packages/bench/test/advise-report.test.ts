// What is said about advice, and the folder that it is written to.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openAdviceFolder } from '../src/advise/folder.js';
import { adviceReport, verdict } from '../src/advise/report.js';
import { advise } from '../src/advise/strategy.js';
import { fake, kl, plan } from './advise-setting.js';

describe('the report', () => {
  const values = { 'rtn-2': 5, 'gptq-2': 1, 'rtn-3': 'it | fell over', 'gptq-2 + tuned on the worst 2 of 8': 0.05 };

  it('says what was found, what was tried, where it hurts and how to repeat it', async () => {
    const text = adviceReport(await advise(plan, fake(values)), 'lowbit quantize x');
    const lines = text.split('\n');
    expect(lines[0]).toBe(
      'kl at most 0.1: met by gptq-2 + tuned on the worst 2 of 8: 0.05 ± 0.01 where it was chosen, 0.049 ± 0.02 on fresh text, at 2.50 bits/weight.',
    );
    expect(text).toMatch(/\| rtn-2 +\| +2\.50 \| +5 ± 0\.01 \| +\| +no \| +3\.0 \|/);
    expect(text).toMatch(/\| rtn-3 +\| +\| +NOT_FINITE \| +\| +no \| +\|/);
    expect(text).toContain('rtn-3 failed: NOT_FINITE: it | fell over');
    expect(text).toContain('At 2 bits nothing met the threshold without training, and gptq-2 came nearest. What each of its 8 parts');
    // d and b have 9 + 8 of the sum, the others 1 + 0.8 + 0.6 + 0.5 + 0.4 + 0.3.
    expect(text).toContain('most d (9), b (8), a (1), c (0.8), e (0.6). The worst 2 make up 83 % of the sum.');
    expect(lines.slice(-3)).toEqual(['To make it again:', '', '    lowbit quantize x']);
    const differing = adviceReport(await advise(plan, fake(values)), 'lowbit quantize x', 'to other weights');
    expect(differing.split('\n').at(-3)).toBe('To make it again (to other weights):');
  });

  it('says how far the nearest is, and when the difference is no more than chance', async () => {
    const far = await advise(
      { ...plan, threshold: kl(0.01) },
      fake({ ...values, 'gptq-2 + tuned on the worst 4 of 8': 'x', 'gptq-2 + tuned on all 8': 'y' }),
    );
    expect(verdict(far)).toBe(
      'kl at most 0.01: met by nothing that was tried. Nearest is gptq-2 + tuned on the worst 2 of 8: 0.05 ± 0.01 at 2.50 bits/weight, 0.04 too much.',
    );
    expect(verdict(await advise({ ...plan, threshold: kl(1.00001) }, fake(values)))).toMatch(/^kl at most 1\.00001: met by gptq-2/);
    expect(verdict(await advise({ ...plan, threshold: kl(0.06) }, fake(values)))).toMatch(
      /That is within two standard errors of the threshold; more windows would tell\.$/,
    );
  });
});

it('the folder holds trials as they come, and a recipe with targets where recipes have them', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'lowbit-advice-'));
  try {
    const folder = openAdviceFolder(directory);
    const { trials, damages } = await advise({ ...plan, threshold: kl(2) }, fake({ 'rtn-2': 5, 'gptq-2': 1 }));
    for (const trial of trials) folder.trial(trial);
    expect(
      readFileSync(join(directory, 'trials.jsonl'), 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual(trials);
    expect(damages).toEqual([]);
    folder.finish('report\n', [
      { method: 'rtn', options: { bits: 2 } },
      { method: 'tune', options: { epochs: 1, targets: ['a'] } },
      { method: 'plain' },
    ]);
    expect(JSON.parse(readFileSync(join(directory, 'recipe.json'), 'utf8'))).toEqual([
      { method: 'rtn', options: { bits: 2 } },
      { method: 'tune', options: { epochs: 1 }, targets: ['a'] },
      { method: 'plain', options: {} },
    ]);
    // Another run leaves nothing of this one, and without a model there is no recipe.
    const another = openAdviceFolder(directory);
    another.trial(trials[0]);
    expect(readdirSync(directory)).toEqual(['trials.jsonl']);
    another.finish('nothing\n', undefined);
    expect(readdirSync(directory)).toEqual(['advice.md', 'trials.jsonl']);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

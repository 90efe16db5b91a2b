// A run as its files hold it: two models, recipes of several widths and seeds, one that fails, names that are markup.
import type { LogLine, RunFiles } from '../../src/folder.js';
import type { BenchRow, ScoreRow } from '../../src/row.js';
import { failedRow, scoreRow } from '../rows.js';

/** Would leave the page, run code or load something where it is not escaped, and lose a part where text is taken for markup. */
export const hostile = `"><img src=x onerror="document.title='broken'"></script><script>document.title='broken'</script> role="x" opacity="1" $& $'`;

const steps = (method: string) => [{ method, version: 1, options: { note: hostile }, targets: ['**'], overrides: [] }];
const paths = [0, 1].flatMap((block) => ['self_attn.q_proj', 'mlp.down_proj'].map((name) => `model.layers.${block}.${name}`));

/** The scores of a recipe with a seed. */
function cell(model: string, method: string, bits: number | null, gap: number, seed: number, more: Partial<ScoreRow> = {}): BenchRow[] {
  const row = (evaluator: string, value: number, own: Partial<ScoreRow> = {}): ScoreRow =>
    scoreRow(method, bits, value, { model, seed, evaluator, steps: bits === null ? [] : steps(method), ...more, ...own });
  return [
    row('perplexity', 20 * Math.exp(gap)),
    row('loss-gap', gap, { stderr: gap / 50 }),
    row('layer-error', gap / 10, { parts: Object.fromEntries(paths.map((path, i) => [path, (gap * (i + 1)) / 25])) }),
    row('bits-per-weight', bits === null ? 16 : bits + 0.5, { stderr: 0 }),
  ];
}

const rows = ['tiny', 'stories15M'].flatMap((model) => [
  ...cell(model, 'dense', null, 0, 0),
  ...[0, 1].flatMap((seed) => [
    ...cell(model, 'rtn', 2, 1.5 + seed / 100, seed),
    ...cell(model, 'gptq', 2, 0.7 + seed / 100, seed),
    ...cell(model, 'rtn', 4, 0.08, seed),
    ...cell(model, 'gptq', 4, 0.03 + seed / 1000, seed),
    ...cell(model, 'gptq', 4, 0.4, seed, { recipe: 'gptq-w4a4', activationBits: 4 }),
  ]),
  { ...failedRow('misfit', 3, 'GROUP_SIZE'), model, recipe: hostile, method: hostile, steps: steps('misfit') },
]);

const logs = [0, 1].flatMap((seed) =>
  [1, 2, 3].map(
    (round): LogLine => ({
      ...{ model: 'tiny', recipe: 'gptq-2', seed, path: '' },
      record: { round, loss: 1 / round, heldOutLoss: 1.2 / round, note: hostile },
    }),
  ),
);

export const run: RunFiles = { record: undefined, rows, logs };

const named = { model: hostile, recipe: hostile, method: hostile, steps: steps(hostile) };

/** Every name that a run can have is markup, and all of them have a place in charts. */
export const hostileRun: RunFiles = {
  record: undefined,
  rows: [
    ...cell(hostile, 'dense', null, 0, 0),
    ...[2, 4].flatMap((bits) => [
      scoreRow('x', bits, 1 / bits, { ...named, recipe: `${hostile}${bits}`, evaluator: hostile, protocol: { [hostile]: hostile } }),
      scoreRow('x', bits, 1 / bits, {
        ...named,
        recipe: `${hostile}${bits}`,
        evaluator: 'layer-error',
        parts: { [`${hostile}.0.${hostile}`]: 1 },
      }),
    ]),
  ],
  logs: [1, 2, 3].map((round) => ({
    ...{ model: hostile, recipe: `${hostile}2`, seed: 0, path: hostile },
    record: { round, [`${hostile} loss`]: 1 / round },
  })),
};

// What a person wants to see when a benchmark ends: the table, which recipes are better than which beyond noise, and what failed.
import { groupBy } from './groups.js';
import { formatNumber } from './markdown.js';
import { differs, type Spread, spreadOf } from './noise.js';
import { closedGaps } from './ranking.js';
import { type BenchRow, type FailedRow, isScore, type ScoreRow } from './row.js';
import { formatScore, markdownTable } from './table.js';

/** Markdown. The loss gap is what the lines below the table are about. */
export function summarizeRows(rows: readonly BenchRow[]): string {
  const sections = [
    [markdownTable(rows.filter((row) => row.evaluator !== 'loss-gap'))],
    noiseLines(rows),
    rankingLines(rows),
    gapLines(rows),
    failureLines(rows),
  ];
  return sections
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n');
}

const isGap = (row: BenchRow): row is ScoreRow => isScore(row) && row.evaluator === 'loss-gap' && row.recipe !== 'dense';

/** What seeds make of the loss, by model; nothing where there is one seed. */
function noiseLines(rows: readonly BenchRow[]): string[] {
  return groupBy(rows.filter(isGap), ({ model }) => model).flatMap((own) => {
    const spreads = groupBy(own, ({ recipe }) => recipe)
      .map(spreadOf)
      .filter(({ seeds }) => seeds > 1);
    if (spreads.length === 0) return [];
    const noises = spreads.map(({ noise }) => noise).sort((a, b) => a - b);
    const [least, middle, most] = [noises[0], noises[Math.floor(noises.length / 2)], noises[noises.length - 1]].map(formatNumber);
    const seeds = Math.max(...spreads.map((spread) => spread.seeds));
    return [
      `± is the deviation between ${seeds} seeds. ${own[0].model}: that of the added loss is ${least} to ${most}, in the middle ${middle} nats a token.`,
    ];
  });
}

interface Ranked extends Spread {
  readonly recipe: string;
}

/** 'tiny, 2 bits: rtn-2 0.472 > gptq-2 0.23 ± 0.003 ≈ …', from the most added loss to the least; ≈ where noise explains the difference. */
function rankingLines(rows: readonly BenchRow[]): string[] {
  const sized = rows.filter(isGap).filter(({ bits }) => bits !== null);
  const lines = groupBy(sized, ({ model, bits, groupSize }) => [model, bits, groupSize]).flatMap((own) => {
    const ranked = groupBy(own, ({ recipe }) => recipe)
      .map((group): Ranked => ({ recipe: group[0].recipe, ...spreadOf(group) }))
      .sort((a, b) => b.mean - a.mean);
    if (ranked.length < 2) return [];
    const text = ranked.map((one, i) => {
      const sign = i === 0 ? '' : differs(ranked[i - 1], one) ? ' > ' : ' ≈ ';
      return `${sign}${one.recipe} ${formatScore(one.mean, one.noise)}`;
    });
    const [{ model, bits, groupSize }] = own;
    const groups = groupSize === null ? '' : groupSize === -1 ? ', per channel' : `, groups of ${groupSize}`;
    return [`- ${model}, ${bits} bits${groups}: ${text.join('')}`];
  });
  return lines.length === 0 ? [] : ['Added loss in nats a token (≈: no further apart than twice what chance explains):', '', ...lines];
}

/** What every method is held against. */
const BASELINE = 'rtn';

/** 'stories15M, 2 bits: gptq wins back 73 % of the loss that rtn adds (3.815 ± 0.035 nats a token)'; recipes where a method has several. */
function gapLines(rows: readonly BenchRow[]): string[] {
  const methods = new Set(rows.map(({ method }) => method).filter((method) => method !== BASELINE));
  const lines = [...methods].flatMap((one) => {
    const gaps = closedGaps(rows, one, BASELINE);
    return gaps.map((gap) => {
      const { model, bits, share } = gap;
      const { value, stderr } = gap.baselineAdded;
      const isOnly = gaps.filter((other) => other.model === model && other.bits === bits).length === 1;
      const [method, baseline] = isOnly ? [gap.method, gap.baseline] : [gap.recipe, gap.baselineRecipe];
      const nats = `${value.toPrecision(3)} ± ${stderr.toPrecision(2)} nats a token`;
      if (share === undefined) return `- ${model}, ${bits} bits: ${baseline} adds ${nats}, which is too little to compare`;
      return `- ${model}, ${bits} bits: ${method} wins back ${(100 * share).toFixed(0)} % of the loss that ${baseline} adds (${nats})`;
    });
  });
  return [...new Set(lines)];
}

function failureLines(rows: readonly BenchRow[]): string[] {
  const failed = rows.filter((row): row is FailedRow => !isScore(row));
  const lines = failed.map(({ model, recipe, seed, evaluator, error }) => {
    return `- ${model}, ${recipe}, seed ${seed}, ${evaluator}: ${error.message.split('\n')[0]}`;
  });
  return lines.length === 0 ? [] : ['Failed:', '', ...lines];
}

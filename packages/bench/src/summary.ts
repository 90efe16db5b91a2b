// What a person wants to see when a benchmark ends: the table, which recipes are better than which beyond noise, and what failed.
import { groupBy } from './groups.js';
import { judgedAlike, judgedOtherwise } from './judged-alike.js';
import { formatNumber } from './markdown.js';
import { compare, type Spread, spreadOf } from './noise.js';
import { closedGaps } from './ranking.js';
import { type BenchRow, hasFailed, isScore, type ScoreRow } from './row.js';
import { formatScore, markdownTable } from './table.js';
import { widthOf } from './width.js';

/** Markdown. The loss gap is what the lines below the table are about. */
export function summarizeRows(rows: readonly BenchRow[]): string {
  const sections = [
    [markdownTable(rows.filter((row) => row.evaluator !== 'loss-gap'))],
    protocolLines(rows),
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

/** Scores whose values do not all compare: what is said of them below is said of those that do. */
function protocolLines(rows: readonly BenchRow[]): string[] {
  return judgedOtherwise(rows.filter(isScore)).map(
    ({ model, evaluator, fields }) =>
      `${model}: not all rows of ${evaluator} were judged by one protocol (${fields.join(', ')}); only values of one protocol compare.`,
  );
}

/** What ± says, and by model what seeds make of the loss where there are several. */
function noiseLines(rows: readonly BenchRow[]): string[] {
  const scores = groupBy(rows.filter(isScore), ({ model, recipe, evaluator }) => [model, recipe, evaluator])
    .flatMap(judgedAlike)
    .map(spreadOf);
  if (!scores.some(({ noise }) => noise > 0)) return [];
  const between = groupBy(rows.filter(isGap), ({ model }) => model).flatMap((own) => {
    const spreads = groupBy(own, ({ recipe }) => recipe)
      .flatMap(judgedAlike)
      .map(spreadOf);
    const deviations = spreads.flatMap(({ deviation }) => deviation ?? []).sort((a, b) => a - b);
    if (deviations.length === 0 || deviations.at(-1) === 0) return [];
    const [least, middle, most] = [deviations[0], deviations[Math.floor(deviations.length / 2)], deviations.at(-1) as number].map(
      formatNumber,
    );
    const seeds = Math.max(...spreads.map((spread) => spread.seeds));
    return [
      `${own[0].model}: between ${seeds} seeds the added loss deviates by ${least} to ${most}, in the middle ${middle} nats a token.`,
    ];
  });
  const meaning = scores.some(({ seeds }) => seeds > 1)
    ? '± is the standard error of the mean over the held-out text and over the seeds.'
    : '± is the standard error of the mean over the held-out text; what another seed would change is not in it.';
  return [[meaning, ...between].join(' ')];
}

interface Ranked extends Spread {
  readonly recipe: string;
}

const RANKING = 'Added loss in nats a token (≈: no further apart than twice the error of their difference):';

/** 'tiny, 2 bits: rtn-2 0.472 > gptq-2 0.23 ± 0.003 ≈ …', from the most added loss to the least; ≈ where noise explains the difference. */
function rankingLines(rows: readonly BenchRow[]): string[] {
  const sized = rows
    .filter(isGap)
    .flatMap((row) => (row.bits === null ? [] : [{ row, width: widthOf(row.bits, row.activationBits).name }]));
  const groups = groupBy(sized, ({ row: { model, groupSize }, width }) => [model, width, groupSize]);
  const alike = groups.flatMap((group) => judgedAlike(group.map(({ row }) => row)).map((own) => ({ own, width: group[0].width })));
  const lines = alike.flatMap(({ own, width }) => {
    const ranked = groupBy(own, ({ recipe }) => recipe)
      .map((rows): Ranked => ({ recipe: rows[0].recipe, ...spreadOf(rows) }))
      .sort((a, b) => b.mean - a.mean);
    if (ranked.length < 2) return [];
    const text = ranked.map((one, i) => {
      const sign = i === 0 ? '' : compare(ranked[i - 1], one).isClear ? ' > ' : ' ≈ ';
      return `${sign}${one.recipe} ${formatScore(one.mean, one.noise)}`;
    });
    const { model, groupSize } = own[0];
    const groups = groupSize === null ? '' : groupSize === -1 ? ', per channel' : `, groups of ${groupSize}`;
    return [`- ${model}, ${width}${groups}: ${text.join('')}`];
  });
  return lines.length === 0 ? [] : [RANKING, '', ...lines];
}

/** Rounding alone, of weights and of inputs: what every method is held against. */
const BASELINES = ['rtn', 'activations+rtn'];

/** 'stories15M, 2 bits: gptq wins back 73 % of the loss that rtn adds (3.815 ± 0.035 nats a token)'; recipes where a method has several. */
function gapLines(rows: readonly BenchRow[]): string[] {
  const methods = new Set(rows.map(({ method }) => method).filter((method) => !BASELINES.includes(method)));
  const lines = [...methods].flatMap((one) => {
    const gaps = BASELINES.flatMap((baseline) => closedGaps(rows, one, baseline));
    return gaps.map((gap) => {
      const { model, share } = gap;
      const width = widthOf(gap.bits, gap.activationBits).name;
      const { value, stderr } = gap.baselineAdded;
      const others = gaps.filter(({ bits, activationBits }) => bits === gap.bits && activationBits === gap.activationBits);
      const isOnly = others.filter((other) => other.model === model).length === 1;
      const [method, baseline] = isOnly ? [gap.method, gap.baseline] : [gap.recipe, gap.baselineRecipe];
      const nats = `${value.toPrecision(3)} ± ${stderr.toPrecision(2)} nats a token`;
      if (share === undefined) return `- ${model}, ${width}: ${baseline} adds ${nats}, which is too little to compare`;
      return `- ${model}, ${width}: ${method} wins back ${(100 * share).toFixed(0)} % of the loss that ${baseline} adds (${nats})`;
    });
  });
  return [...new Set(lines)];
}

function failureLines(rows: readonly BenchRow[]): string[] {
  const lines = rows.filter(hasFailed).map(({ model, recipe, seed, evaluator, error }) => {
    return `- ${model}, ${recipe}, seed ${seed}, ${evaluator}: ${error.message.split('\n')[0]}`;
  });
  return lines.length === 0 ? [] : ['Failed:', '', ...lines];
}

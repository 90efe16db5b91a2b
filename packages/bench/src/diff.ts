// Two runs side by side: what changed by more than noise, and where they were not judged alike.
import { isDeepStrictEqual } from 'node:util';
import { groupBy } from './groups.js';
import { areJudgedAlike } from './judged-alike.js';
import { formatNumber, layOutTable } from './markdown.js';
import { compare, type Spread, spreadOf } from './noise.js';
import { cellName } from './outcome.js';
import { type BenchRow, isScore, type ScoreRow } from './row.js';
import { formatScore } from './table.js';

/** One score of one recipe on one model, over the seeds that both runs have. */
export interface DiffLine {
  readonly model: string;
  readonly recipe: string;
  readonly evaluator: string;
  readonly before: Spread;
  readonly after: Spread;
  /** after − before. */
  readonly difference: number;
  /** Standard error of the difference, by windows of the text that both were judged on and by seeds. */
  readonly noise: number;
  /** Beyond twice the noise or not; 'other protocol' where the numbers do not compare. */
  readonly verdict: 'same' | 'within noise' | 'better' | 'worse' | 'other protocol';
}

export interface RunDiff {
  readonly lines: readonly DiffLine[];
  /** What the runs do not have in common, in words. */
  readonly notes: readonly string[];
}

/** Rows are matched by model, recipe, seed and evaluator. */
export function diffRuns(before: readonly BenchRow[], after: readonly BenchRow[]): RunDiff {
  const keyOf = (row: BenchRow): string => `${cellName(row)} ${row.evaluator}`;
  const others = new Map(after.filter(isScore).map((row) => [keyOf(row), row]));
  const pairs = before.filter(isScore).flatMap((row) => {
    const other = others.get(keyOf(row));
    return other ? [{ before: row, after: other }] : [];
  });
  const lines = groupBy(pairs, ({ before: { model, recipe, evaluator } }) => [model, recipe, evaluator]).map(lineOf);
  const matched = new Set(pairs.map((pair) => keyOf(pair.before)));
  const lonely = (rows: readonly BenchRow[], which: string): string[] =>
    rows.filter((row) => !matched.has(keyOf(row))).map((row) => noteOf(row, which));
  const notes = [...provenanceNotes(before, after), ...pairs.flatMap(settingNotes), ...lonely(before, 'first'), ...lonely(after, 'second')];
  return { lines, notes: [...new Set(notes)] };
}

interface Pair {
  readonly before: ScoreRow;
  readonly after: ScoreRow;
}

function lineOf(pairs: readonly Pair[]): DiffLine {
  const [{ model, recipe, evaluator, higherIsBetter }] = pairs.map((pair) => pair.before);
  const [before, after] = [spreadOf(pairs.map((pair) => pair.before)), spreadOf(pairs.map((pair) => pair.after))];
  const { difference, noise, isClear } = compare(before, after);
  const isComparable = pairs.every((pair) => areJudgedAlike(pair.before, pair.after) && areJudgedAlike(pair.before, pairs[0].before));
  const change = difference > 0 === higherIsBetter ? 'better' : 'worse';
  const verdict = !isComparable ? 'other protocol' : difference === 0 ? 'same' : isClear ? change : 'within noise';
  return { model, recipe, evaluator, before, after, difference, noise, verdict };
}

/** What a recipe was made or judged with otherwise, by the fields that differ. */
function settingNotes({ before, after }: Pair): string[] {
  const { model, recipe, evaluator } = before;
  const protocol = changes(
    { version: before.evaluatorVersion, ...before.protocol },
    { version: after.evaluatorVersion, ...after.protocol },
  );
  const steps = isDeepStrictEqual(before.steps, after.steps)
    ? []
    : [`steps: ${JSON.stringify(before.steps)} → ${JSON.stringify(after.steps)}`];
  const data = changes(
    { calibration: before.calibration?.hash, task: before.task?.hash },
    { calibration: after.calibration?.hash, task: after.task?.hash },
  );
  return [
    ...protocol.map((change) => `protocol of ${evaluator} on ${model}: ${change}`),
    ...[...steps, ...data].map((change) => `${model}, ${recipe}: ${change}`),
  ];
}

function provenanceNotes(before: readonly BenchRow[], after: readonly BenchRow[]): string[] {
  const of = (rows: readonly BenchRow[]): object => {
    const all = (pick: (row: BenchRow) => string | null): string => [...new Set(rows.map(pick))].join(', ');
    return {
      commit: all((row) => row.commit),
      backend: all((row) => row.backend),
      versions: all((row) => Object.entries(row.versions).join(' ')),
    };
  };
  return changes(of(before), of(after));
}

/** 'windows: 40 → 16' of each field that differs. */
function changes(before: object, after: object): string[] {
  const [a, b] = [before, after] as readonly Readonly<Record<string, unknown>>[];
  const fields = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((field) => !isDeepStrictEqual(a[field], b[field]));
  return fields.map((field) => `${field}: ${JSON.stringify(a[field]) ?? 'none'} → ${JSON.stringify(b[field]) ?? 'none'}`);
}

function noteOf(row: BenchRow, which: string): string {
  const name = `${row.model}, ${row.recipe}, seed ${row.seed}, ${row.evaluator}`;
  return isScore(row) ? `${name}: in the ${which} run alone` : `${name}: failed in the ${which} run: ${row.error.message.split('\n')[0]}`;
}

/** Markdown. */
export function diffText({ lines, notes }: RunDiff): string {
  const body = lines.map(({ model, recipe, evaluator, before, after, difference, noise, verdict }) => [
    ...[model, recipe, evaluator, verdict, String(before.seeds)],
    ...[formatScore(before.mean, before.noise), formatScore(after.mean, after.noise)],
    `${difference > 0 ? '+' : ''}${formatNumber(difference)}`,
    Number.isNaN(noise) ? '' : formatNumber(noise),
  ]);
  const table = layOutTable(['model', 'recipe', 'score', 'verdict', 'seeds', 'first', 'second', 'difference', 'noise'], body, 4);
  const shown = lines.length === 0 ? ['The runs have no score in common.'] : [table];
  return [...shown, ...(notes.length === 0 ? [] : ['', ...notes.map((note) => `- ${note}`)])].join('\n');
}

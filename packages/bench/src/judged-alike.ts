// Values of a score compare where they were measured alike: by one version of the evaluator, on the same text or examples.
import { isDeepStrictEqual } from 'node:util';
import { groupBy } from './groups.js';
import type { ScoreRow } from './row.js';

type Judged = Pick<ScoreRow, 'evaluatorVersion' | 'protocol'>;

/** Of two rows of one score. */
export function areJudgedAlike(a: Judged, b: Judged): boolean {
  return a.evaluatorVersion === b.evaluatorVersion && isDeepStrictEqual(a.protocol, b.protocol);
}

/** Rows of one score in sets that were judged alike. */
export function judgedAlike<Row extends Judged>(rows: readonly Row[]): Row[][] {
  const sets: Row[][] = [];
  for (const row of rows) {
    const own = sets.find(([first]) => areJudgedAlike(first, row));
    if (own) own.push(row);
    else sets.push([row]);
  }
  return sets;
}

/** Models and scores whose rows do not all compare, and by which fields of their protocols they differ. */
export function judgedOtherwise(
  rows: readonly ScoreRow[],
): { readonly model: string; readonly evaluator: string; readonly fields: string[] }[] {
  return groupBy(rows, ({ model, evaluator }) => [model, evaluator]).flatMap((group) => {
    const sets = judgedAlike(group).map(
      ([{ evaluatorVersion, protocol }]): Readonly<Record<string, unknown>> => ({
        version: evaluatorVersion,
        ...protocol,
      }),
    );
    if (sets.length === 1) return [];
    const fields = [...new Set(sets.flatMap(Object.keys))].filter((field) =>
      sets.some((set) => !isDeepStrictEqual(set[field], sets[0][field])),
    );
    return [{ model: group[0].model, evaluator: group[0].evaluator, fields }];
  });
}

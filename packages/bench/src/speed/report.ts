// The form of every speed benchmark's output: a table for people, then one JSON line for programs.

/** Prints a two-column table and, as the last line, `{"bench": name, "metrics": {…}}`. */
export function reportBench(name: string, rows: readonly (readonly [string, string])[], metrics: Readonly<Record<string, number>>): void {
  const width = Math.max(...rows.map(([label]) => label.length));
  for (const [label, value] of rows) process.stdout.write(`${label.padEnd(width)}  ${value}\n`);
  const rounded = Object.fromEntries(Object.entries(metrics).map(([key, value]) => [key, Number(value.toPrecision(4))]));
  process.stdout.write(`${JSON.stringify({ bench: name, metrics: rounded })}\n`);
}

/**
 * Best time of each job in milliseconds. Jobs take turns, so that a machine whose speed drifts slows all of them alike.
 * The first turn warms up and is not counted.
 */
export async function bestTimes<Name extends string>(
  jobs: Readonly<Record<Name, () => Promise<unknown>>>,
  rounds: number,
): Promise<Record<Name, number>> {
  const names = Object.keys(jobs) as Name[];
  const best = Object.fromEntries(names.map((name) => [name, Number.POSITIVE_INFINITY])) as Record<Name, number>;
  for (let round = 0; round <= rounds; round++) {
    for (const name of names) {
      const start = performance.now();
      await jobs[name]();
      if (round > 0) best[name] = Math.min(best[name], performance.now() - start);
    }
  }
  return best;
}

// Runs every example and compares the figures it prints with its expected.json.
// An example's last line on stdout is a JSON object of numbers; expected.json gives each a value and a relative tolerance.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Expectation {
  readonly value: number;
  /** Largest |figure − value| / |value|. */
  readonly tolerance: number;
}

/** Names of figures that are missing or out of bounds, with both numbers. */
function compare(figures: Record<string, unknown>, expected: Record<string, Expectation>): string[] {
  return Object.entries(expected).flatMap(([name, { value, tolerance }]) => {
    const figure = figures[name];
    if (typeof figure !== 'number') return [`${name}: not printed, expected ${value}`];
    const off = Math.abs(figure - value) / Math.max(Math.abs(value), Number.MIN_VALUE);
    return off <= tolerance ? [] : [`${name}: ${figure}, expected ${value} within ${tolerance * 100} %`];
  });
}

function runExample(folder: string): string[] {
  const { status, stdout, stderr } = spawnSync('tsx', ['main.ts'], { cwd: folder, encoding: 'utf8', shell: process.platform === 'win32' });
  if (status !== 0) return [`exited with ${status}`, stderr.trim()];
  const last = stdout.trim().split('\n').at(-1) ?? '';
  let figures: Record<string, unknown>;
  try {
    figures = JSON.parse(last) as Record<string, unknown>;
  } catch {
    return [`the last line is not JSON: ${last}`];
  }
  return compare(figures, JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')) as Record<string, Expectation>);
}

let failures = 0;
for (const name of readdirSync('examples').sort()) {
  const folder = join('examples', name);
  if (!existsSync(join(folder, 'main.ts'))) continue;
  const start = performance.now();
  const problems = runExample(folder);
  console.log(`${problems.length === 0 ? 'ok    ' : 'FAILED'}  ${((performance.now() - start) / 1000).toFixed(1).padStart(6)} s  ${name}`);
  for (const problem of problems) console.log(`        ${problem}`);
  failures += problems.length;
}
process.exit(failures === 0 ? 0 : 1);

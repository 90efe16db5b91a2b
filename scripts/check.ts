// The whole check, in the order of how fast each part fails: `pnpm check`. Runs every part even when an earlier one failed.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';

interface Part {
  readonly name: string;
  readonly command: readonly string[];
}

const results = 'runs/check';
const testResults = `${results}/vitest.json`;

const parts: readonly Part[] = [
  { name: 'format and lint', command: ['biome', 'ci', '.'] },
  { name: 'build (types of the sources)', command: ['turbo', 'run', 'build', '--output-logs=errors-only', '--concurrency=2'] },
  { name: 'types of tests and examples', command: ['tsc', '-p', 'tsconfig.test.json'] },
  { name: 'unused files, exports, dependencies', command: ['knip'] },
  { name: 'tests', command: ['vitest', 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${testResults}`] },
  { name: 'examples', command: ['tsx', 'scripts/run-examples.ts'] },
  { name: 'packed packages', command: ['tsx', 'scripts/check-packages.ts'] },
];

/** Runs one part with its output passed through. */
function run(part: Part): { name: string; ok: boolean; seconds: number } {
  console.log(`\n▸ ${part.name}: ${part.command.join(' ')}`);
  const start = performance.now();
  const [program, ...args] = part.command;
  // Under `pnpm run` the programs of node_modules/.bin are on the PATH.
  const { status, error } = spawnSync(program, args, {
    stdio: 'inherit',
    shell: process.platform === 'win32',
    env: { ...process.env, ...quiet },
  });
  if (error) console.error(error.message);
  return { name: part.name, ok: status === 0, seconds: (performance.now() - start) / 1000 };
}

/** Turbo neither reports usage nor looks for updates. */
const quiet = { TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1', TURBO_NO_UPDATE_NOTIFIER: '1' };

/** Tests counted by vitest; a suite that could not be loaded counts as one failure. */
function countTests(): { passed: number; failed: number } {
  try {
    const report = JSON.parse(readFileSync(testResults, 'utf8')) as {
      numPassedTests: number;
      numFailedTests: number;
      testResults: { status: string; assertionResults: unknown[] }[];
    };
    const unloaded = report.testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0).length;
    return { passed: report.numPassedTests, failed: report.numFailedTests + unloaded };
  } catch {
    return { passed: 0, failed: 1 };
  }
}

rmSync(results, { recursive: true, force: true });
mkdirSync(results, { recursive: true });
const outcomes = parts.map(run);
console.log('\nsummary');
for (const { name, ok, seconds } of outcomes) console.log(`  ${ok ? 'ok    ' : 'FAILED'}  ${seconds.toFixed(1).padStart(6)} s  ${name}`);

// The test part is counted by its tests, every other part as one.
const tests = countTests();
const others = outcomes.filter((outcome) => outcome.name !== 'tests');
const passed = tests.passed + others.filter((outcome) => outcome.ok).length;
const failed = tests.failed + others.filter((outcome) => !outcome.ok).length;
writeFileSync(`${results}/summary.json`, `${JSON.stringify({ passed, failed, parts: outcomes }, null, 2)}\n`);
console.log(`${passed} passed, ${failed} failed (tests, and every other part as one)`);
process.exit(outcomes.every((outcome) => outcome.ok) ? 0 : 1);

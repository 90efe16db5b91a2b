// The whole check, in the order of how fast each part fails: `pnpm check`. Runs every part even when an earlier one failed.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';

interface Part {
  readonly name: string;
  readonly command: readonly string[];
}

const results = 'runs/check';
const testResults = `${results}/vitest.json`;

/** One after the other; parts of one line use one core each, and run side by side. */
const parts: readonly (readonly Part[])[] = [
  [{ name: 'format and lint', command: ['biome', 'ci', '.'] }],
  // One compiler for all packages; the build, a compiler for each, then finds its work done.
  [{ name: 'types of the sources', command: ['tsc', '-b'] }],
  [{ name: 'build', command: ['turbo', 'run', 'build', '--output-logs=errors-only', '--concurrency=2'] }],
  [
    { name: 'types of tests and examples', command: ['tsc', '-p', 'tsconfig.test.json'] },
    { name: 'unused files, exports, dependencies', command: ['knip'] },
  ],
  [{ name: 'tests', command: ['vitest', 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${testResults}`] }],
  [{ name: 'examples', command: ['tsx', 'scripts/run-examples.ts'] }],
  [{ name: 'packed packages', command: ['tsx', 'scripts/check-packages.ts'] }],
];

interface Outcome {
  readonly name: string;
  readonly ok: boolean;
  readonly seconds: number;
}

/** Runs one part; its output is passed through as it comes, or, `whole`, when it has ended. */
async function run({ name, command }: Part, whole: boolean): Promise<Outcome> {
  const heading = `\n▸ ${name}: ${command.join(' ')}`;
  if (!whole) console.log(heading);
  const start = performance.now();
  const [program, ...args] = command;
  // Under `pnpm run` the programs of node_modules/.bin are on the PATH.
  const child = spawn(program, args, {
    stdio: whole ? ['ignore', 'pipe', 'pipe'] : 'inherit',
    shell: process.platform === 'win32',
    env: { ...process.env, ...quiet },
  });
  const output: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => void output.push(chunk));
  const status = await once(child, 'close').then(
    ([code]) => code as number | null,
    (error: Error) => void output.push(Buffer.from(`${error.message}\n`)),
  );
  if (whole) console.log(heading);
  process.stdout.write(Buffer.concat(output));
  return { name, ok: status === 0, seconds: (performance.now() - start) / 1000 };
}

/** Turbo neither reports usage nor looks for updates. */
const quiet = { TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1', TURBO_NO_UPDATE_NOTIFIER: '1' };

interface TestFile {
  readonly name: string;
  readonly status: string;
  readonly message: string;
  readonly assertionResults: readonly { readonly status: string; readonly fullName: string; readonly failureMessages: readonly string[] }[];
}

/** Tests counted by vitest, and what failed, in words; a suite that could not be loaded counts as one failure. */
function countTests(): { passed: number; failed: number; failures: string[] } {
  try {
    const report = JSON.parse(readFileSync(testResults, 'utf8')) as {
      numPassedTests: number;
      numFailedTests: number;
      testResults: readonly TestFile[];
    };
    const unloaded = report.testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0);
    const failures = report.testResults.flatMap(({ name, assertionResults }) =>
      assertionResults
        .filter(({ status }) => status === 'failed')
        .map(({ fullName, failureMessages }) => `${relative('.', name)}: ${fullName}\n${shorten(failureMessages.join('\n'))}`),
    );
    return {
      passed: report.numPassedTests,
      failed: report.numFailedTests + unloaded.length,
      failures: [...unloaded.map(({ name, message }) => `${relative('.', name)}\n${shorten(message)}`), ...failures],
    };
  } catch (error) {
    return { passed: 0, failed: 1, failures: [`no report of tests: ${error}`] };
  }
}

/** The first lines of a message, indented. */
function shorten(message: string): string {
  return message
    .split('\n')
    .slice(0, 12)
    .map((line) => `    ${line}`)
    .join('\n');
}

rmSync(results, { recursive: true, force: true });
mkdirSync(results, { recursive: true });
const outcomes: Outcome[] = [];
for (const line of parts) outcomes.push(...(await Promise.all(line.map((part) => run(part, line.length > 1)))));
console.log('\nsummary');
for (const { name, ok, seconds } of outcomes) console.log(`  ${ok ? 'ok    ' : 'FAILED'}  ${seconds.toFixed(1).padStart(6)} s  ${name}`);

// The test part is counted by its tests, every other part as one.
const tests = countTests();
for (const failure of tests.failures) console.log(`\nFAILED  ${failure}`);
const others = outcomes.filter((outcome) => outcome.name !== 'tests');
const passed = tests.passed + others.filter((outcome) => outcome.ok).length;
const failed = tests.failed + others.filter((outcome) => !outcome.ok).length;
writeFileSync(`${results}/summary.json`, `${JSON.stringify({ passed, failed, parts: outcomes }, null, 2)}\n`);
console.log(`${passed} passed, ${failed} failed (tests, and every other part as one)`);
process.exit(outcomes.every((outcome) => outcome.ok) ? 0 : 1);

// oracle:lm-eval: accuracies of choice tasks against those of EleutherAI's lm-evaluation-harness on the same records.
// Usage: pnpm oracle:lm-eval [directory of stories15M] [tasks, separated by commas]
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import type { Backend } from '@lowbit/core';
import { loadTokenizer, openRecords } from '@lowbit/data';
import { openCheckpoint } from '@lowbit/formats';
import { loadModel } from '@lowbit/models';
import { preparePython } from '../../../scripts/python-environment.js';
import { type ChoiceTask, choiceTasks, judgeChoices, measure } from '../src/index.js';
import { agrees, BAR, type Comparison, missing } from './comparison.js';
import { itemsOf, itemTasks } from './items.js';
import { environmentFor, requirements } from './requirements.js';

/** Records of each task, and solved ones to draw from. */
const ITEMS = 200;
const TRAINING_ITEMS = 40;

/** A run without solved examples before a question, and a shorter one with some. */
const RUNS = [
  { shots: 0, items: ITEMS },
  { shots: 2, items: 40 },
];

interface Answers {
  readonly task: string;
  /** 'acc', 'acc_stderr', … */
  readonly scores: Readonly<Record<string, number | 'N/A'>>;
  readonly samples: readonly { readonly logLikelihoods: readonly number[]; readonly sha256: string }[];
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function writeItems(directory: string, names: readonly string[]): Promise<void> {
  const write = async (task: string, split: string, count: number): Promise<void> => {
    const lines = (await itemsOf(task, split, count)).map((item) => `${JSON.stringify(item)}\n`);
    await writeFile(join(directory, `${task}.${split}.jsonl`), lines.join(''));
  };
  for (const name of names) {
    await write(name, taskOf(name).split, ITEMS);
    await write(name, 'train', TRAINING_ITEMS);
  }
}

function taskOf(name: string): ChoiceTask {
  const task = choiceTasks.get(name);
  if (!task || !itemTasks.includes(name)) throw new Error(`no task '${name}' to compare; there are ${itemTasks.join(', ')}`);
  return task;
}

/** Opens the model once; compares a task with a number of shots. */
async function comparer(path: string, directory: string, backend: Backend) {
  const model = await loadModel(await openCheckpoint(path));
  const tokenizer = await loadTokenizer(path);
  return async (count: number, limit: number, theirs: Answers): Promise<Comparison[]> => {
    const name = theirs.task;
    const task = taskOf(name);
    const records = await openRecords(directory, name, task.split);
    const shots = count > 0 ? { count, from: await openRecords(directory, name, 'train') } : undefined;
    const judged = await judgeChoices(model, { task, records, limit, tokenizer, shots }, { backend });
    const differences = judged.flatMap(({ logLikelihoods }, i) =>
      logLikelihoods.map((value, k) => Math.abs(value - theirs.samples[i].logLikelihoods[k])),
    );
    const same = judged.filter(({ sha256 }, i) => sha256 === theirs.samples[i].sha256);
    return task.metrics.map((metric) => {
      const { value, stderr } = measure(metric, judged);
      return {
        ...{ task: name, shots: count, metric, ours: value, theirs: Number(theirs.scores[metric]), stderr },
        theirStderr: Number(theirs.scores[`${metric}_stderr`]),
        difference: differences.reduce((largest, one) => Math.max(largest, one), 0),
        sameHashes: same.length / Math.max(judged.length, theirs.samples.length),
      };
    });
  };
}

/** What the harness says, task by task, of the records in a directory. */
async function* askHarness(program: string, directory: string, args: readonly string[]): AsyncGenerator<Answers> {
  const script = fileURLToPath(new URL('harness.py', import.meta.url));
  const env = { ...process.env, ...environmentFor(directory) };
  const child = spawn(program, [script, ...args], { stdio: ['ignore', 'pipe', 'inherit'], env });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  for await (const text of createInterface({ input: child.stdout })) {
    if (text.startsWith('{"task"')) yield JSON.parse(text) as Answers;
  }
  const code = await ended;
  if (code !== 0) throw new Error(`${script} ended with ${code}; what it wrote is above`);
}

function line(cells: readonly string[]): string {
  return cells.map((cell, i) => (i === 0 || i === 2 ? cell.padEnd(16) : cell.padStart(11))).join(' ');
}

const testData = process.env.LOWBIT_TEST_DATA;
const model = process.argv[2] ?? (testData === undefined ? undefined : join(testData, 'models', 'stories15M'));
if (model === undefined) throw new Error('name the directory of stories15M, or the one of test data in LOWBIT_TEST_DATA');
const names = process.argv[3]?.split(',') ?? itemTasks;
const python = await preparePython('lm-eval', requirements, say);
const directory = await mkdtemp(join(tmpdir(), 'lowbit-oracle-'));
const backend = await createOnnxBackend();
try {
  await writeItems(directory, names);
  const compare = await comparer(model, directory, backend);
  const rows: Comparison[] = [];
  say(line(['task', 'shots', 'metric', 'ours', 'harness', 'stderr', 'harness', 'difference', 'hashes']));
  for (const { shots, items } of RUNS) {
    for await (const answers of askHarness(python, directory, [model, directory, String(shots), String(items), ...names])) {
      for (const row of await compare(shots, items, answers)) {
        rows.push(row);
        const { ours, theirs, stderr, theirStderr, difference, sameHashes } = row;
        const numbers = [ours, theirs, stderr, theirStderr].map((value) => value.toPrecision(6));
        say(line([row.task, String(shots), row.metric, ...numbers, difference.toExponential(1), `${(100 * sameHashes).toFixed(0)} %`]));
      }
    }
  }
  const apart = rows.filter((row) => !agrees(row)).map(({ task, shots, metric }) => `${task}/${metric} with ${shots} shots`);
  const unanswered = missing(
    rows,
    names.map(taskOf),
    RUNS.map(({ shots }) => shots),
  );
  if (apart.length > 0) say(`not equal: ${apart.join(', ')}`);
  if (unanswered.length > 0) say(`not answered by the harness: ${unanswered.join(', ')}`);
  const isAgreed = apart.length === 0 && unanswered.length === 0;
  if (isAgreed) say(`all equal, with the same records and standard errors, log-likelihoods within ${BAR} nats`);
  const metrics = {
    scores: rows.length,
    equal: rows.length - apart.length,
    unanswered: unanswered.length,
    difference: rows.reduce((largest, row) => Math.max(largest, row.difference), 0),
  };
  say(JSON.stringify({ oracle: 'lm-eval', metrics }));
  if (!isAgreed) process.exitCode = 1;
} finally {
  await backend.dispose();
  await rm(directory, { recursive: true, force: true });
}

// oracle:lm-eval-answers: what a model writes for GSM8K, and its scores, against EleutherAI's lm-evaluation-harness on the same records.
// Usage: pnpm oracle:lm-eval-answers [directory of stories15M]
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createRng } from '@lowbit/core';
import { loadTokenizer, openRecords } from '@lowbit/data';
import { openCheckpoint } from '@lowbit/formats';
import { generate, loadModel } from '@lowbit/models';
import { preparePython, runProgram } from '../../../scripts/python-environment.js';
import { type GenerationTask, generationEvaluator, generationTasks, type JudgedAnswer } from '../src/index.js';
import { environmentFor, requirements } from './requirements.js';

const ITEMS = 24;
/** Of an answer. With four examples before a question, some prompts no longer fit into the context of 256 and lose their beginning. */
const TOKENS = 48;
const SHOTS = [0, 4];

interface Answers {
  /** Value and standard error by match. */
  readonly scores: Readonly<Record<string, readonly [number, number]>>;
  readonly samples: readonly Pick<JudgedAnswer, 'prompt' | 'answer' | 'values' | 'sha256'>[];
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Small sums told as stories, with the fields of GSM8K. */
function problems(split: string): string {
  const lines = Array.from({ length: ITEMS }, (_, i) => {
    const [a, b, kind] = createRng(7).at(split, i).integers(3, 30);
    const thing = ['apples', 'toy cars', 'red balls', 'cookies', 'pretty shells'][kind % 5];
    const question = `Lily had ${a + 2} ${thing}. Her friend Tom gave her $${b} more. She was happy. How many ${thing} does Lily have now?`;
    const answer = `Lily had ${a + 2} and got ${b}.\nShe has ${a + 2}+${b}=<<${a + 2}+${b}=${a + b + 2}>>${a + b + 2} ${thing}.\n#### ${a + b + 2}`;
    return `${JSON.stringify({ question, answer })}\n`;
  });
  return lines.join('');
}

const testData = process.env.LOWBIT_TEST_DATA;
const path = process.argv[2] ?? (testData === undefined ? undefined : join(testData, 'models', 'stories15M'));
if (path === undefined) throw new Error('name the directory of stories15M, or the one of test data in LOWBIT_TEST_DATA');
const python = await preparePython('lm-eval', requirements, say);
const directory = await mkdtemp(join(tmpdir(), 'lowbit-oracle-'));
const backend = await createOnnxBackend();
try {
  for (const split of ['test', 'train']) await writeFile(join(directory, `gsm8k.${split}.jsonl`), problems(split));
  const model = await loadModel(await openCheckpoint(path));
  const tokenizer = await loadTokenizer(path);
  const task = generationTasks.get('gsm8k') as GenerationTask;
  const [records, from] = [await openRecords(directory, 'gsm8k', 'test'), await openRecords(directory, 'gsm8k', 'train')];
  const script = fileURLToPath(new URL('answers.py', import.meta.url));
  let apart = 0;
  for (const count of SHOTS) {
    await runProgram(python, [script, path, directory, String(count), String(TOKENS)], environmentFor(directory));
    const theirs = JSON.parse(await readFile(join(directory, `answers-${count}.json`), 'utf8')) as Answers;
    const ours: JudgedAnswer[] = [];
    const examples = { task, records, tokenizer, generate, maxTokens: TOKENS, shots: count > 0 ? { count, from } : undefined };
    const scores = await generationEvaluator({ ...examples, onAnswer: (answer) => ours.push(answer) }).evaluate(model, { backend });
    // A space at the beginning is what the harness loses.
    const same = ours.filter(({ prompt, answer, values, sha256 }, i) => {
      const other = theirs.samples[i];
      const isScored = Object.entries(values).every(([match, value]) => other.values[match] === value);
      return prompt === other.prompt && answer.replace(/^ /, '') === other.answer && isScored && sha256 === other.sha256;
    });
    const { shortenedPrompts } = scores[0].protocol;
    say(
      `${count} shots, ${String(shortenedPrompts)} prompts shortened: ${same.length} of ${ours.length} prompts, answers and matches are equal`,
    );
    for (const { evaluator, value, stderr } of scores) {
      const [their, theirStderr] = theirs.scores[evaluator.slice('gsm8k/'.length)];
      say(
        `  ${evaluator.padEnd(24)} ours ${value.toFixed(6)} ± ${stderr.toFixed(6)}, harness ${their.toFixed(6)} ± ${theirStderr.toFixed(6)}`,
      );
      if (Math.abs(value - their) > 1e-9 || Math.abs(stderr - theirStderr) > 1e-9) apart++;
    }
    apart += ours.length - same.length;
  }
  say(JSON.stringify({ oracle: 'lm-eval-answers', metrics: { items: ITEMS * SHOTS.length, apart } }));
  if (apart > 0) process.exitCode = 1;
} finally {
  await backend.dispose();
  await rm(directory, { recursive: true, force: true });
}

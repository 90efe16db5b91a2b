// oracle:transformers: random models of each family, our logits and greedy text against those of Hugging Face transformers.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, read, readFloats, type TypedArray } from '@lowbit/core';
import { openCheckpoint, openSafetensors } from '@lowbit/formats';
import { preparePython, runProgram } from '../../../scripts/python-environment.js';
import { generate, loadModel } from '../src/index.js';

/** Largest difference of logits allowed, relative to the largest logit. */
const BAR = 1e-4;

/** Tokens of each row that the greedy text continues; as in random_models.py. */
const PROMPT = 24;

interface Comparison {
  readonly case: string;
  readonly architecture: string;
  readonly tokens: number;
  readonly relativeError: number;
  /** Share of greedily generated tokens that agree. */
  readonly greedyAgreement: number;
}

function relativeError(actual: TypedArray, expected: TypedArray): number {
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(actual[i] - expected[i])); // NaN stays
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return difference / scale;
}

async function compare(backend: Backend, directory: string, name: string): Promise<Comparison> {
  const model = await loadModel(await openCheckpoint(join(directory, name)));
  const answers = await openSafetensors(join(directory, `${name}.safetensors`));
  const tokens = answers.tensor('tokens');
  const [logits] = await backend.evaluate([model.forward(tokens)]);
  const error = relativeError(await readFloats(logits), await readFloats(answers.tensor('logits')));

  const [batch, length] = tokens.shape;
  const greedy = answers.tensor('greedy');
  const [, newTokens] = greedy.shape;
  const ids = (await read(tokens)) as Int32Array;
  const prompts = Array.from({ length: batch }, (_, row) => ids.slice(row * length, row * length + PROMPT));
  const written = (await generate(model, backend, { prompts, maxTokens: newTokens })).flatMap((row) => [...row]);
  const expected = await read(greedy);
  const agreeing = written.filter((token, i) => token === expected[i]).length;
  return {
    case: name,
    architecture: model.config.architecture,
    tokens: tokens.size,
    relativeError: error,
    greedyAgreement: agreeing / expected.length,
  };
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const python = await preparePython('transformers', [], say);
const directory = await mkdtemp(join(tmpdir(), 'lowbit-oracle-'));
const backend = await createOnnxBackend();
try {
  const script = fileURLToPath(new URL('random_models.py', import.meta.url));
  await runProgram(python, [script, directory], { HF_HUB_OFFLINE: '1', TRANSFORMERS_VERBOSITY: 'error', CUDA_VISIBLE_DEVICES: '' });
  const names = JSON.parse(await readFile(join(directory, 'cases.json'), 'utf8')) as string[];
  const rows: Comparison[] = [];
  for (const name of names) rows.push(await compare(backend, directory, name));

  say(
    ['case'.padEnd(20), 'model_type'.padEnd(12), 'tokens'.padStart(6), 'relative error'.padStart(16), 'greedy tokens'.padStart(15)].join(
      ' ',
    ),
  );
  for (const row of rows) {
    const error = row.relativeError.toExponential(2).padStart(16);
    const greedy = `${(100 * row.greedyAgreement).toFixed(1)} %`.padStart(15);
    say([row.case.padEnd(20), row.architecture.padEnd(12), String(row.tokens).padStart(6), error, greedy].join(' '));
  }
  const beyond = rows.filter((row) => !(row.relativeError <= BAR)).map((row) => row.case);
  say(beyond.length === 0 ? `all within ${BAR} of the largest logit` : `beyond ${BAR} of the largest logit: ${beyond.join(', ')}`);
  const metrics = {
    cases: rows.length,
    relativeError: Math.max(...rows.map((row) => row.relativeError)),
    greedyAgreement: Math.min(...rows.map((row) => row.greedyAgreement)),
  };
  say(JSON.stringify({ oracle: 'transformers', metrics }));
  if (beyond.length > 0) process.exitCode = 1;
} finally {
  await backend.dispose();
  await rm(directory, { recursive: true, force: true });
}

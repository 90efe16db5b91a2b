// How fast a model takes in a prompt and writes, and what that makes resident.
import { type Backend, createRng, type EvaluationContext, type Evaluator, type Model, materialize, type Score } from '@lowbit/core';
import { meanOf } from '@lowbit/eval';
import { densify, generate } from '@lowbit/models';
import { measurePeakMemory } from './peak-memory.js';

const VERSION = 1;
/** Rounds that are counted, after one that compiles. */
const ROUNDS = 5;

/** One prompt of random tokens and what is written behind it; less of both where the context is short. */
interface Work {
  readonly prompt: Int32Array;
  readonly newTokens: number;
}

function workFor({ config: { contextLength, vocabularySize } }: Model): Work {
  const length = Math.min(128, Math.floor(contextLength / 2));
  const prompt = createRng(0).at('prompt').integers(length, vocabularySize);
  return { prompt: Int32Array.from(prompt), newTokens: Math.min(33, contextLength - length) };
}

/** Tokens a second. */
interface Rates {
  readonly prefill: number;
  readonly decode: number;
}

/** The first new token comes with the prompt, each further one by itself. */
async function ratesOf(model: Model, { prompt, newTokens }: Work, { backend, signal }: EvaluationContext): Promise<Rates> {
  const start = performance.now();
  let [first, last] = [0, 0];
  const onTokens = (): void => {
    last = performance.now();
    first ||= last;
  };
  await generate(model, backend, { prompts: [prompt], maxTokens: newTokens, signal, onTokens });
  return { prefill: (1000 * prompt.length) / (first - start), decode: (1000 * (newTokens - 1)) / (last - first) };
}

/** With quantized weights made dense, as generation has them; layers that run in integers stay as they are. */
async function readied(model: Model, { backend, signal }: EvaluationContext): Promise<Model> {
  return materialize(await densify(model, backend, { signal }));
}

/**
 * Scores 'prefill-tokens-per-second' and 'decode-tokens-per-second' of one sequence: means of the rounds, with their error between rounds.
 * They are of this machine and what else runs on it.
 */
export function speedEvaluator(): Evaluator {
  return {
    name: 'speed',
    version: VERSION,
    async evaluate(model, context) {
      const work = workFor(model);
      const ready = await readied(model, context);
      const rounds: Rates[] = [];
      for (let round = 0; round <= ROUNDS; round++) {
        const rates = await ratesOf(ready, work, context);
        if (round > 0) rounds.push(rates);
        context.progress?.(round, ROUNDS);
      }
      const protocol = { ...protocolOf(work, context.backend), rounds: ROUNDS, standardError: 'between rounds' };
      const scoreOf = (evaluator: string, values: readonly number[]): Score => {
        return { evaluator, version: VERSION, ...meanOf(values), samples: ROUNDS, higherIsBetter: true, protocol };
      };
      return [
        scoreOf(
          'prefill-tokens-per-second',
          rounds.map(({ prefill }) => prefill),
        ),
        scoreOf(
          'decode-tokens-per-second',
          rounds.map(({ decode }) => decode),
        ),
      ];
    },
  };
}

/** Score 'peak-rss-mib': the most that is resident while a model is readied, takes in a prompt and writes, with what was resident before. */
export function memoryEvaluator(): Evaluator {
  return {
    name: 'memory',
    version: VERSION,
    async evaluate(model, context) {
      const work = workFor(model);
      const takePeak = measurePeakMemory();
      await ratesOf(await readied(model, context), work, context);
      const protocol = { ...protocolOf(work, context.backend), counted: 'the whole process, and what it held before' };
      return [{ evaluator: 'peak-rss-mib', version: VERSION, value: takePeak(), stderr: 0, samples: 1, higherIsBetter: false, protocol }];
    },
  };
}

function protocolOf({ prompt, newTokens }: Work, { name }: Backend): Score['protocol'] {
  return {
    promptTokens: prompt.length,
    newTokens,
    sequences: 1,
    decoding: 'greedy',
    weights: 'dense, or codes run in integers',
    backend: name,
  };
}

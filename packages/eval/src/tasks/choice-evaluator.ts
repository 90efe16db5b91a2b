// Choice tasks as evaluators: accuracies with the conventions of EleutherAI's lm-evaluation-harness.
import type { Evaluator, Model, Score } from '@lowbit/core';
import type { RecordTable, Tokenizer } from '@lowbit/data';
import { type Shots, shotTexts } from './few-shot.js';
import { type LikelihoodOptions, likelihoodsOf } from './log-likelihood.js';
import { isHigherBetter, measure, type Scored, standardErrorOf } from './metrics.js';
import { digestOf, protocolOf } from './protocol.js';
import { type Request, requestOf } from './requests.js';
import type { ChoiceTask, Question } from './task.js';

/** A task and the records it is judged by. */
export interface ChoiceExamples {
  readonly task: ChoiceTask;
  readonly records: RecordTable;
  /** The first so many alone. */
  readonly limit?: number | undefined;
  /** Solved examples before each question; none by default. */
  readonly shots?: Shots | undefined;
  readonly tokenizer: Tokenizer;
}

/** An example, what was asked, and how likely each answer is. */
export interface JudgedChoice extends Scored {
  readonly prompts: readonly string[];
  /** Of the record, as the harness hashes it. */
  readonly sha256: string;
  /** Whether one of its texts did not fit into the context, and lost its beginning. */
  readonly isShortened: boolean;
}

/** Scores by name: 'arc_easy/acc', 'arc_easy/acc_norm'. Throws what `judgeChoices` throws. */
export function choiceEvaluator(examples: ChoiceExamples): Evaluator {
  const { task } = examples;
  return {
    name: task.name,
    version: task.version,
    async evaluate(model, { backend, signal, progress }) {
      const judged = await judgeChoices(model, examples, { backend, signal, progress });
      const hashes = judged.map((example) => example.sha256);
      const shortenedPrompts = judged.filter(({ isShortened }) => isShortened).length;
      const shared = protocolOf({ ...examples, hashes, shortenedPrompts }, model, backend);
      return task.metrics.map((metric): Score => {
        const protocol = { ...shared, standardError: standardErrorOf(metric) };
        const { value, stderr } = measure(metric, judged);
        const evaluator = `${task.name}/${metric}`;
        return {
          evaluator,
          version: task.version,
          value,
          stderr,
          samples: judged.length,
          higherIsBetter: isHigherBetter(metric),
          protocol,
        };
      });
    },
  };
}

/**
 * Scores every answer of every example.
 * @throws TASK_FIELD, TASK_SHOTS, TASK_ENDING, CONTEXT_LENGTH, TOKEN_RANGE, SCORE_NAN, ABORTED.
 */
export async function judgeChoices(model: Model, examples: ChoiceExamples, options: LikelihoodOptions): Promise<JudgedChoice[]> {
  const { task, tokenizer, shots } = examples;
  const { delimiter = ' ' } = task;
  const records = examples.records.records.slice(0, examples.limit);
  const before = shots && shots.count > 0 ? shotTexts(task, records, shots) : undefined;
  const questions = records.map((record, i): Question => {
    const question = task.question(record);
    return before ? { ...question, prompts: question.prompts.map((prompt) => before[i] + prompt) } : question;
  });
  const requests: Request[] = questions.flatMap(({ prompts, endings }, i) =>
    prompts.map((prompt, k) => requestOf(prompt, delimiter + endings[k], tokenizer, model.config.contextLength, records[i].where)),
  );
  const { logLikelihoods, isGreedy } = await likelihoodsOf(model, requests, options);
  let next = 0;
  return questions.map((question, i) => {
    const [start, end] = [next, next + question.endings.length];
    next = end;
    return {
      ...question,
      logLikelihoods: Array.from(logLikelihoods.subarray(start, end)),
      isGreedy: Array.from(isGreedy.subarray(start, end), Boolean),
      sha256: digestOf(task.document?.(records[i]) ?? records[i].value),
      isShortened: requests.slice(start, end).some((request) => request.isShortened),
    };
  });
}

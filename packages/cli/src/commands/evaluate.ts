// lowbit eval: judges a model on held-out text, against the dense model where one is given.
import { resolve } from 'node:path';
import {
  type EvaluatorName,
  evaluatorName,
  evaluatorsOf,
  heldOutText,
  openSuite,
  openTask,
  provenanceOf,
  readsText,
  resolveModel,
  type SuiteSource,
} from '@lowbit/bench';
import { LowbitError, type Score } from '@lowbit/core';
import { generationTasks, type ProtocolName, protocols } from '@lowbit/eval';
import { type Command, Option } from 'commander';
import { type AnswersFile, answersFile } from '../answers-file.js';
import {
  addEngineOptions,
  addOutputOptions,
  addTextOptions,
  addWindowOptions,
  type EngineArguments,
  MODELS,
  type OutputArguments,
  openBackend,
  type TextArguments,
  textSource,
  type WindowArguments,
} from '../arguments.js';
import type { CommandContext } from '../context.js';
import { addExecutionOption, type ExecutionArguments, withExecution } from '../execution.js';
import { createReporter } from '../reporter.js';
import { addSuiteOptions, SUITE_OPTIONS, type SuiteArguments, suiteSource } from '../suite-arguments.js';
import { addTaskOptions, type TaskArguments, taskSource } from '../task-arguments.js';

interface EvalArguments
  extends EngineArguments,
    ExecutionArguments,
    OutputArguments,
    SuiteArguments,
    TaskArguments,
    TextArguments,
    WindowArguments {
  readonly reference?: string;
  readonly evaluators?: readonly string[];
  readonly protocol?: ProtocolName;
  readonly answers?: string;
  readonly force?: boolean;
}

export function addEvalCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('eval')
    .description('judge a model on held-out text, or on a task')
    .argument('<model>', MODELS)
    .option(
      '--reference <model>',
      'the dense model it was made from: adds KL divergence, top-1 agreement and loss gap, and writes the text of --text self',
    )
    .option(
      '--evaluators <names...>',
      'text (perplexity, and what --reference adds), task (accuracy and loss), layer-error, size, disk, speed (tokens a second), memory; with --task: task size, with --tasks: size, else text size',
    )
    .addOption(new Option('--protocol <name>', 'how the text is cut into windows').choices(Object.keys(protocols)));
  addWindowOptions(command, { use: 'windows at most', count: 64, seed: 'of the text that --text self writes' });
  addTextOptions(command, 'held-out text');
  addTaskOptions(command, 'what to judge by');
  addSuiteOptions(command)
    .addOption(
      new Option('--answers <file>', 'writes what a model wrote for each question, and how it was judged').helpGroup(SUITE_OPTIONS),
    )
    .addOption(new Option('--force', 'overwrite the file of --answers').helpGroup(SUITE_OPTIONS));
  addExecutionOption(command);
  addEngineOptions(command);
  addOutputOptions(command, 'one JSON object a score on stdout');
  command.action((reference: string, options: EvalArguments) => runEval(reference, options, context));
}

async function runEval(
  modelReference: string,
  options: EvalArguments,
  { terminal, directory, hub, signal, startWork }: CommandContext,
): Promise<void> {
  const source = taskSource(options, directory);
  const tasks = suiteSource(options, directory);
  const usual = source ? ['task', 'size'] : tasks ? ['size'] : ['text', 'size'];
  const names: EvaluatorName[] = (options.evaluators ?? usual).map((name) => evaluatorName(name));
  if (names.includes('layer-error') && options.reference === undefined) {
    throw new LowbitError('REFERENCE_MISSING', 'layer-error compares with the dense model; name it with --reference');
  }
  const answers = await answersOf(options, tasks, directory);
  const resolved = await resolveModel(modelReference, directory, hub);
  const executed = withExecution(resolved.model, resolved.name, options);
  const task = source && (await openTask(source, resolved));
  const suite = tasks ? await openSuite(tasks, { ...resolved, onAnswer: answers?.write }) : [];
  const reference = options.reference === undefined ? undefined : await resolveModel(options.reference, directory, hub);
  const backend = await openBackend(options);
  const reporter = createReporter(terminal, { isQuiet: options.quiet === true });
  try {
    if (executed.note !== undefined) reporter.note(executed.note);
    if (task) reporter.note(`task: ${task.report}`);
    const windows = readsText(names)
      ? await heldOutText(textSource(options, directory) ?? (reference ?? resolved).text, options, {
          ...(reference ?? resolved),
          backend,
          seed: options.seed,
          signal,
          progress: (done, total) => reporter.progress('held-out text', resolved.name, done, total),
        })
      : undefined;
    if (windows) reporter.note(`judged on ${windows.description}, ${windows.scoredTokens} tokens scored`);
    // Nothing is emptied for a run that cannot begin.
    await answers?.open();
    const judged = { windows, task: task?.task, directory: resolved.checkpoint.path };
    for (const evaluator of [...evaluatorsOf(names, judged), ...suite]) {
      const started = performance.now();
      const scores = await evaluator.evaluate(executed.model, {
        backend,
        reference: reference?.model,
        signal,
        progress: (done, total) => {
          // The evaluator has accepted model, reference and text.
          startWork();
          reporter.progress(evaluator.name, resolved.name, done, total);
        },
      });
      reporter.end();
      const seconds = (performance.now() - started) / 1000;
      const { versions, commit } = provenanceOf(backend);
      for (const score of scores) {
        const made = { ...versions, ...resolved.versions };
        const record = { model: resolved.name, ...score, execution: options.execution, seconds, versions: made, commit };
        terminal.out(options.json ? `${JSON.stringify(record)}\n` : `${scoreLine(score)}\n`);
      }
    }
  } finally {
    reporter.end();
    await backend.dispose();
  }
}

function scoreLine({ evaluator, value, stderr, samples }: Score): string {
  const error = stderr > 0 ? ` ± ${stderr.toPrecision(2)}` : '';
  return `${evaluator.padEnd(28)} ${value.toPrecision(5)}${error}  (${samples} samples)`;
}

/** @throws TASK_OPTIONS where no task is answered in words, OUTPUT_EXISTS. */
async function answersOf(
  { answers, force }: EvalArguments,
  tasks: SuiteSource | undefined,
  directory: string,
): Promise<AnswersFile | undefined> {
  if (answers === undefined) {
    if (force) throw new LowbitError('TASK_OPTIONS', '--force: is about the file of --answers, and none is named');
    return undefined;
  }
  if (!tasks?.names.some((name) => generationTasks.has(name))) {
    const known = [...generationTasks.keys()].join(', ');
    throw new LowbitError(
      'TASK_OPTIONS',
      `--answers: is about tasks whose answers a model writes; name one of them with --tasks: ${known}`,
    );
  }
  return answersFile(resolve(directory, answers), force === true);
}

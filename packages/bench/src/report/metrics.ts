// What the report knows about scores: what people call them, and in what order they matter.

export interface Metric {
  /** As rows call it. */
  readonly name: string;
  readonly title: string;
  /** 'nats per token'; empty for pure numbers. */
  readonly unit: string;
  readonly about: string;
  /** Zero stands for the dense model, and recipes differ by factors. */
  readonly isDistance: boolean;
}

/** What a model is worth. */
const first: readonly Metric[] = [
  metric('loss-gap', 'Loss added', 'nats per token', 'cross-entropy on the held-out text, less that of the dense model', true),
  metric('perplexity', 'Perplexity', '', 'exponential of the mean cross-entropy on the held-out text'),
  metric('kl', 'KL', 'nats per token', 'Kullback-Leibler divergence of the predictions from those of the dense model', true),
  metric('top1-agreement', 'Top-1 agreement', '', 'share of tokens for which the dense model’s first choice is the first choice'),
  metric('task-loss', 'Task loss', 'nats', 'cross-entropy of the task’s labels'),
  metric('task-accuracy', 'Task accuracy', '', 'share of the task’s examples that are answered rightly'),
];

/** What explains it, and what it costs to run: after the tasks of the literature. */
const last: readonly Metric[] = [
  metric('layer-error', 'Layer error', '', 'mean over Linears of the squared error of the output, relative to the output', true),
  metric('prefill-tokens-per-second', 'Prefill', 'tokens per second', 'speed of reading a text'),
  metric('decode-tokens-per-second', 'Decode', 'tokens per second', 'speed of writing one'),
  metric('peak-rss-mib', 'Memory to run', 'MiB', 'largest resident memory of the process while the model reads and writes a text'),
];

function metric(name: string, title: string, unit: string, about: string, isDistance = false): Metric {
  return { name, title, unit, about, isDistance };
}

/** Exact figures that have their own column, or say the same as one. */
const hidden = new Set(['bits-per-weight', 'bits-per-weight-whole-model', 'samples']);

/** The scores of a run in the order of importance; those that are not known here are of tasks, and stay as they come. */
export function metricsOf(evaluators: Iterable<string>): Metric[] {
  const names = new Set(evaluators);
  const known = [...first, ...last];
  const tasks = [...names].filter((name) => !hidden.has(name) && !known.some((one) => one.name === name));
  const isThere = ({ name }: Metric): boolean => names.has(name);
  return [...first.filter(isThere), ...tasks.map((name) => metric(name, name, '', '')), ...last.filter(isThere)];
}

// bench:quad --prefill: what prompts cost in each execution, as ratios to the model as it is, for several numbers and lengths of prompts.
import type { Backend } from '@lowbit/core';
import { defaultRank } from '@lowbit/quad';
import { resolveModel } from '../model-reference.js';
import {
  executions,
  FLOAT,
  layersInIntegers,
  type PrefillSize,
  type PrefillTimes,
  prefillTimes,
  randomLlama,
  withForms,
} from './quad-prefill.js';
import { reportBench } from './report.js';

export interface PrefillArguments {
  /** Name or directory; `tiny` by default. */
  readonly model?: string | undefined;
  /** A Llama of random weights of this width instead. */
  readonly width?: number | undefined;
  /** Prompts that are taken in together. */
  readonly batches: readonly number[];
  /** Tokens of a prompt; a quarter of what the model takes in at most, and that, where there is none. */
  readonly lengths: readonly number[];
  readonly rounds: number;
}

/** Tokens of the longest prompts where nobody says otherwise. */
const LONGEST_PROMPT = 512;

type ByExecution = Readonly<Record<string, number>>;

/** @param memoryOf MiB that an execution takes for prompts of a size, measured in a process of its own. */
export async function benchPrefill(
  backend: Backend,
  { model: reference = 'tiny', width, batches, lengths, rounds }: PrefillArguments,
  memoryOf: (directory: string, execution: string, size: PrefillSize) => number,
): Promise<void> {
  const model = width === undefined ? (await resolveModel(reference)).model : randomLlama(width);
  const longest = Math.min(LONGEST_PROMPT, model.config.contextLength - 1);
  const tried = lengths.length > 0 ? lengths : [Math.ceil(longest / 4), longest];
  const sizes = batches.flatMap((batch) => tried.map((tokens): PrefillSize => ({ batch, tokens })));
  await withForms(backend, model, async (directory) => {
    const measured = await prefillTimes(backend, directory, sizes, rounds);
    const { integer, all } = await layersInIntegers(directory);
    const name = width === undefined ? reference : 'random weights';
    const rows: [string, string][] = [
      ['model', `${name}, width ${model.width}, ${model.blocks.length} blocks; QUAD with rank ${defaultRank(model.width)}`],
      ['in integers', `${integer} of ${all} layers, the head included; 4-bit codes are multiplied as 8-bit ones`],
      ['time', 'to the first token, best of the rounds; memory: peak beyond what the process held before'],
    ];
    const metrics: Record<string, number> = {};
    for (const { times, batch, tokens } of measured) {
      const memory = Object.fromEntries(executions.map((execution) => [execution, memoryOf(directory, execution, { batch, tokens })]));
      rows.push([`${batch} × ${tokens} tokens`, `float ${times[FLOAT].toFixed(1)} ms; over it: ${overFloat(times)}`]);
      rows.push(['  memory', `float ${memory[FLOAT].toFixed(0)} MiB; over it: ${overFloat(memory)}`]);
      for (const execution of executions.slice(1)) {
        const key = execution
          .replace('W', 'w')
          .replace('A', 'a')
          .replace(/ ./, (letter) => letter.trim().toUpperCase());
        metrics[`${key}${batch}x${tokens}`] = times[execution] / times[FLOAT];
        metrics[`${key}Memory${batch}x${tokens}`] = memory[execution] / memory[FLOAT];
      }
    }
    rows.push(['slower than float', slowerThanFloat(measured)]);
    reportBench('quad-prefill', rows, metrics);
  });
}

function overFloat(values: ByExecution): string {
  return executions
    .slice(1)
    .map((execution) => `${execution} ${(values[execution] / values[FLOAT]).toFixed(2)}`)
    .join(', ');
}

/** Which executions take longer than the model as it is, by how much, and in how many of the sizes. */
export function slowerThanFloat(measured: readonly PrefillTimes[]): string {
  const slower = executions.slice(1).flatMap((execution) => {
    const ratios = measured.map(({ times }) => times[execution] / times[FLOAT]).filter((ratio) => ratio > 1);
    if (ratios.length === 0) return [];
    const [least, most] = [Math.min(...ratios), Math.max(...ratios)].map((ratio) => ratio.toFixed(2));
    return [`${execution} (${least === most ? least : `${least} to ${most}`} times, ${ratios.length} of ${measured.length} sizes)`];
  });
  return slower.length === 0 ? 'none' : slower.join(', ');
}

// Options of a run: quantize takes them, and plan takes them to say what the run would be.
import type { Propagation } from '@lowbit/pipeline';
import { type Command, Option } from 'commander';
import {
  addEngineOptions,
  addOutputOptions,
  addTextOptions,
  addWindowOptions,
  collect,
  type EngineArguments,
  integer,
  MODELS,
  type OutputArguments,
  type TextArguments,
  type WindowArguments,
} from './arguments.js';
import { addKeptRunOptions, type KeptRunArguments } from './kept-run.js';
import { addTaskOptions, type TaskArguments } from './task-arguments.js';

export interface RunArguments extends EngineArguments, KeptRunArguments, OutputArguments, TaskArguments, TextArguments, WindowArguments {
  readonly recipe: readonly string[];
  /** Where plan may leave it open, and quantize may not. */
  readonly out?: string;
  readonly propagate: Propagation;
  readonly force?: boolean;
  readonly minTokens?: number;
}

/** `json` says what is printed with --json. */
export function addRunOptions(command: Command, { json, isOutRequired }: { json: string; isOutRequired: boolean }): Command {
  command
    .argument('<model>', MODELS)
    .requiredOption(
      '--recipe <recipe>',
      "a file (.ts, .js, .json, .yaml), or inline: 'gptq:bits=2,groupSize=64'; steps of several are applied in order",
      collect(String),
    )
    .addOption(new Option('--out <directory>', 'where the checkpoint goes').makeOptionMandatory(isOutRequired))
    .option('--force', 'overwrite the checkpoint that is there, and drop an unfinished run');
  addWindowOptions(command, { use: 'calibration windows', count: 128, seed: 'of every random choice' });
  command.addOption(new Option('--propagate <stream>', 'what feeds the next block').choices(['quantized', 'dense']).default('quantized'));
  command.option('--min-tokens <count>', 'round a Linear to nearest that fewer calibration tokens reach (0.5 % of them)', integer(0));
  addKeptRunOptions(command);
  addTextOptions(command, 'calibration text');
  addTaskOptions(command, 'what to tune for');
  addEngineOptions(command);
  return addOutputOptions(command, json);
}

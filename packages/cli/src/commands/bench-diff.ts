// lowbit bench diff: what changed from one run to another, and whether by more than noise.
import { resolve } from 'node:path';
import { diffRuns, diffText, readRun } from '@lowbit/bench';
import type { Command } from 'commander';
import type { CommandContext } from '../context.js';

interface DiffArguments {
  readonly json?: boolean;
}

/** Below the command whose runs it compares. */
export function addBenchDiffCommand(bench: Command, { terminal, directory }: CommandContext): void {
  bench
    .command('diff')
    .description('compare the scores of two runs, score by score')
    .argument('<first>', 'a directory that bench --out has written')
    .argument('<second>', 'another one')
    .option('--json', 'one JSON object a score and a note')
    .action((first: string, second: string, _: DiffArguments, command: Command) => {
      const [before, after] = [first, second].map((path) => readRun(resolve(directory, path)).rows);
      const diff = diffRuns(before, after);
      // The command above has an option of this name, which takes it.
      const { json } = command.optsWithGlobals<DiffArguments>();
      if (!json) terminal.out(`${diffText(diff)}\n`);
      else for (const item of [...diff.lines, ...diff.notes.map((note) => ({ note }))]) terminal.out(`${JSON.stringify(item)}\n`);
    });
}

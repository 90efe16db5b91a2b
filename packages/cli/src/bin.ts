#!/usr/bin/env node
// The lowbit executable: this process's streams, directory and interruptions around the command line.
import { exitCodes } from './exit.js';
import { runCommandLine } from './program.js';
import { processTerminal } from './terminal.js';

const abort = new AbortController();
let interrupts = 0;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // The first asks the run to stop at its next step; the second does not wait.
    if (++interrupts > 1) process.exit(exitCodes.cancelled);
    abort.abort();
  });
}
// A reader that closed its end (head, less) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(exitCodes.ok);
});

process.exitCode = await runCommandLine({
  arguments: process.argv.slice(2),
  terminal: processTerminal(),
  directory: process.cwd(),
  signal: abort.signal,
});

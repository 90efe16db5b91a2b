#!/usr/bin/env node
// The lowbit executable: this process's streams, directory and interruptions around the command line.
import { exitCodes } from './exit.js';
import { runCommandLine } from './program.js';
import { processTerminal } from './terminal.js';

const abort = new AbortController();
const signals = ['SIGINT', 'SIGTERM'] as const;
let interrupts = 0;
function interrupt(): void {
  if (++interrupts > 1) process.exit(exitCodes.cancelled);
  abort.abort();
  // Those that have come by now are still seen above. From here on the system ends the process, whatever it computes just then.
  setImmediate(() => {
    for (const signal of signals) process.off(signal, interrupt);
    process.stderr.write('\nlowbit: stopping as soon as the work at hand allows; once more ends at once\n');
  });
}
for (const signal of signals) process.on(signal, interrupt);
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

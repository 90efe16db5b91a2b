// The streams a command writes to, so that tests can hand in their own.

export interface Terminal {
  /** Results: tables, rows, generated text. */
  out(text: string): void;
  /** Everything about the run: progress, warnings, errors. */
  err(text: string): void;
  /** Whether `err` is a terminal that a line can be redrawn on. */
  readonly isInteractive: boolean;
  /** Width of that terminal in columns. */
  readonly columns: number;
}

/** The terminal of this process. */
export function processTerminal(): Terminal {
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    isInteractive: process.stderr.isTTY === true,
    get columns() {
      return process.stderr.columns ?? 80;
    },
  };
}

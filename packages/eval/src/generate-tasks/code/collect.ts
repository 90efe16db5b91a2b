// Watches a process that is not trusted: its clocks, how much it says, and that nothing of it is left.
import type { ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';

export interface Watch {
  /** For its standard input. */
  readonly input: string;
  readonly signal: AbortSignal | undefined;
  /** Until it says something on its status pipe, and from then on. */
  readonly startSeconds: number;
  readonly seconds: number;
  readonly outputBytes: number;
  readonly statusBytes: number;
}

export interface Collected {
  /** Why it was killed, if it was. */
  readonly stopped: 'start' | 'time' | 'output' | 'abort' | undefined;
  /** What it wrote to file descriptor 3. */
  readonly status: string;
  /** The first of what it printed. */
  readonly output: string;
  /** 'status 1' or 'SIGKILL'. */
  readonly exit: string;
}

/** Characters of output that are kept. */
const KEPT = 2000;

/** Resolves when the process has ended and its pipes are closed. It must lead a process group, which is killed as one. */
export function collect(child: ChildProcess, watch: Watch): Promise<Collected> {
  return new Promise((resolve, reject) => {
    let stopped: Collected['stopped'];
    let [status, output] = ['', ''];
    let [statusBytes, outputBytes] = [0, 0];
    const stop = (why: Collected['stopped']): void => {
      stopped ??= why;
      killGroup(child);
    };
    const abort = (): void => stop('abort');
    let timer = setTimeout(stop, watch.startSeconds * 1000, 'start');
    const [stdin, stdout, stderr, statusPipe] = child.stdio as unknown as [ChildProcess['stdin'], Readable, Readable, Readable];
    for (const stream of [stdout, stderr]) {
      stream.on('data', (chunk: Buffer) => {
        outputBytes += chunk.length;
        if (output.length < KEPT) output += chunk.toString().slice(0, KEPT - output.length);
        if (outputBytes > watch.outputBytes) stop('output');
      });
    }
    statusPipe.on('data', (chunk: Buffer) => {
      if (statusBytes === 0) {
        clearTimeout(timer);
        timer = setTimeout(stop, watch.seconds * 1000, 'time');
      }
      statusBytes += chunk.length;
      if (statusBytes > watch.statusBytes) stop('output');
      else status += chunk.toString();
    });
    // One that ends at once does not read its input.
    stdin?.on('error', () => {});
    stdin?.end(watch.input);
    watch.signal?.addEventListener('abort', abort, { once: true });
    if (watch.signal?.aborted) abort();
    const settle = (finish: () => void): void => {
      clearTimeout(timer);
      watch.signal?.removeEventListener('abort', abort);
      finish();
    };
    child.on('error', (error) => settle(() => reject(error)));
    child.on('close', (code, signal) => settle(() => resolve({ stopped, status, output, exit: signal ?? `status ${code}` })));
  });
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nothing of it is left.
  }
}

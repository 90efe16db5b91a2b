// Shows a run on a terminal: a bar that is redrawn where that is possible, one plain line now and then elsewhere, nothing when quiet.
import type { RunEvent } from '@lowbit/core';
import { advance, afterEvent, formatBar, formatDuration, idle, type Progress, secondsLeft } from './progress.js';
import type { Terminal } from './terminal.js';

const REDRAW_MILLISECONDS = 100;
const PLAIN_LINE_MILLISECONDS = 5000;
const CLEAR_LINE = '\r\u001b[2K';

export interface Reporter {
  /** A line about the run: what is loaded, what was measured. */
  note(text: string): void;
  warn(text: string): void;
  /** An event of the runner; `recipe` says whose where there are several. */
  event(event: RunEvent, recipe?: string): void;
  /** `done` of `total` of a stage outside the runner: writing text, evaluating. */
  progress(stage: string, path: string, done: number, total: number): void;
  /** Clears the bar. */
  end(): void;
}

export interface ReporterOptions {
  readonly isQuiet: boolean;
  /** Milliseconds; the wall clock. */
  readonly now?: () => number;
}

export function createReporter(terminal: Terminal, { isQuiet, now = () => performance.now() }: ReporterOptions): Reporter {
  let state: Progress = idle;
  let shownAt = Number.NEGATIVE_INFINITY;
  let isBarShown = false;

  const clear = (): void => {
    if (isBarShown) terminal.err(CLEAR_LINE);
    isBarShown = false;
  };
  const line = (text: string): void => {
    clear();
    terminal.err(`${text}\n`);
  };
  const show = (next: Progress): void => {
    const isNewStage = next.stage !== state.stage || next.startedAt !== state.startedAt;
    state = next;
    if (isQuiet || next.total === 0) return;
    const time = now();
    const isEnd = next.done >= next.total;
    if (terminal.isInteractive) {
      if (!isNewStage && !isEnd && time - shownAt < REDRAW_MILLISECONDS) return;
      terminal.err(`${CLEAR_LINE}${formatBar(next, time, terminal.columns)}`);
      isBarShown = true;
    } else {
      if (isNewStage) shownAt = time;
      if (time - shownAt < PLAIN_LINE_MILLISECONDS) return;
      const left = secondsLeft(next, time);
      line(`${next.stage}: ${next.done} of ${next.total}${left === undefined || isEnd ? '' : `, ${formatDuration(left)} left`}`);
    }
    shownAt = time;
  };

  return {
    note(text) {
      if (!isQuiet) line(text);
    },
    warn: (text) => line(`warning: ${text}`),
    event(event, recipe) {
      if (event.type === 'warning') line(`warning: ${event.code}: ${event.path}: ${event.message}`);
      show(afterEvent(state, event, now(), recipe));
    },
    progress: (stage, path, done, total) => show(advance(state, stage, path, done, total, now())),
    end: clear,
  };
}

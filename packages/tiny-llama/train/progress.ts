// Shows a training run: one line that is rewritten on a terminal, plain lines otherwise.
import type { TrainingEvent } from './run.js';

const BAR_WIDTH = 24;
/** Steps between two plain lines. */
const PLAIN_EVERY = 50;

export interface ProgressSettings {
  readonly name: string;
  readonly steps: number;
  readonly tokensPerStep: number;
  readonly isTerminal: boolean;
  readonly write: (text: string) => void;
  /** Milliseconds; a parameter so that tests need no clock. */
  readonly now: () => number;
}

/** A listener for `train`'s events. */
export function showProgress({ name, steps, tokensPerStep, isTerminal, write, now }: ProgressSettings): (event: TrainingEvent) => void {
  let started: { readonly step: number; readonly at: number } | undefined;
  let heldOut = '';
  return (event) => {
    if (event.kind === 'resumed') {
      write(`${name}: resumed after step ${event.step}\n`);
      return;
    }
    if (event.kind === 'evaluated') {
      const { point } = event;
      heldOut = ` · held-out ${point.heldOutLoss.toFixed(3)} (perplexity ${Math.exp(point.heldOutLoss).toFixed(1)})`;
      if (!isTerminal) write(`${name}: step ${point.step} · train ${point.trainLoss.toFixed(4)}${heldOut}\n`);
      return;
    }
    // The first step compiles the graph and would spoil the rate.
    started ??= { step: event.step, at: now() };
    const seconds = (now() - started.at) / 1000;
    const done = event.step - started.step;
    const rate =
      done > 0
        ? ` · ${Math.round((done * tokensPerStep) / seconds)} tokens/s · ${formatTime((seconds / done) * (steps - event.step))} left`
        : '';
    const line = `${name}: step ${event.step}/${steps} · loss ${event.loss.toFixed(3)}${rate}`;
    if (isTerminal) {
      const filled = Math.round((BAR_WIDTH * event.step) / steps);
      write(`\r\x1b[K${'█'.repeat(filled)}${'░'.repeat(BAR_WIDTH - filled)} ${line}${heldOut}${event.step === steps ? '\n' : ''}`);
    } else if (event.step % PLAIN_EVERY === 0) {
      write(`${line}\n`);
    }
  };
}

function formatTime(seconds: number): string {
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

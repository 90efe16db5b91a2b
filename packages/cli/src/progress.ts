// What a run is doing, folded from its events: pure, so that the bar can be tested without a terminal or a clock.
import type { RunEvent } from '@lowbit/core';

/** Where a run stands. */
export interface Progress {
  /** Whose work the runner's events are about: a method, or a recipe where there are several. */
  readonly owner: string;
  /** 'gptq quantize', 'held-out text': what the bar shows on its left. */
  readonly stage: string;
  /** What is being worked on: a Linear, a block, a model. */
  readonly path: string;
  readonly done: number;
  readonly total: number;
  /** When the stage began, milliseconds on the caller's clock. */
  readonly startedAt: number;
}

export const idle: Progress = { owner: '', stage: '', path: '', done: 0, total: 0, startedAt: 0 };

/** The state after `done` of `total` in a stage; the clock restarts where the stage changes or begins again. */
export function advance(progress: Progress, stage: string, path: string, done: number, total: number, now: number): Progress {
  const goesOn = stage === progress.stage && done >= progress.done;
  return { owner: progress.owner, stage, path, done, total, startedAt: goesOn ? progress.startedAt : now };
}

/** The state after an event of the runner. */
export function afterEvent(progress: Progress, event: RunEvent, now: number, recipe?: string): Progress {
  switch (event.type) {
    case 'step-start':
      return { ...idle, owner: recipe ?? event.method, startedAt: now };
    case 'progress':
      return advance(progress, `${progress.owner} ${event.stage}`, event.path, event.done, event.total, now);
    case 'linear-done':
    case 'block-done':
      return { ...progress, path: event.path };
    case 'run-start':
    case 'step-done':
    case 'run-done':
    case 'log':
    case 'warning':
      return progress;
    default:
      return event satisfies never;
  }
}

/** A pace measured over less says nothing. */
const SHORTEST_MEASURE_MILLISECONDS = 500;

/** Seconds left in the stage at its pace so far; undefined before there is one. */
export function secondsLeft({ done, total, startedAt }: Progress, now: number): number | undefined {
  if (done === 0 || total === 0 || now - startedAt < SHORTEST_MEASURE_MILLISECONDS) return undefined;
  return ((now - startedAt) / 1000 / done) * (total - done);
}

/** '8 s', '3 min 20 s', '2 h 5 min'. */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
}

const BAR_WIDTH = 24;

/** One line of at most `columns` characters: 'gptq quantize ━━━━──── 12/42 · 8 s left · model.layers.1.mlp.down_proj'. */
export function formatBar(progress: Progress, now: number, columns: number): string {
  const { stage, path, done, total } = progress;
  const filled = total === 0 ? 0 : Math.round((BAR_WIDTH * done) / total);
  const left = secondsLeft(progress, now);
  const parts = [`${stage} ${'━'.repeat(filled)}${'─'.repeat(BAR_WIDTH - filled)} ${done}/${total}`];
  if (left !== undefined && done < total) parts.push(`${formatDuration(left)} left`);
  if (path !== '') parts.push(path);
  const line = parts.join(' · ');
  return line.length < columns ? line : `${line.slice(0, Math.max(0, columns - 2))}…`;
}

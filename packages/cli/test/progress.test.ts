// The bar and the plain lines, folded from events on a clock that the test sets.
import type { RunEvent } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { advance, afterEvent, formatBar, formatDuration, idle, secondsLeft } from '../src/progress.js';
import { createReporter } from '../src/reporter.js';
import type { Terminal } from '../src/terminal.js';

const stepStart: RunEvent = { type: 'step-start', step: 0, method: 'gptq', targets: 4 };
const quantizing = (done: number, path: string): RunEvent => ({ type: 'progress', step: 0, stage: 'quantize', path, done, total: 4 });

function recorder(isInteractive: boolean): Terminal & { text(): string } {
  let text = '';
  return { out: () => {}, err: (more) => (text += more), isInteractive, columns: 60, text: () => text };
}

describe('progress', () => {
  it('names method and stage, and tells the time left from the pace so far', () => {
    let progress = afterEvent(idle, stepStart, 1000);
    expect(secondsLeft(progress, 1500)).toBeUndefined();
    progress = afterEvent(progress, quantizing(0, ''), 1000);
    progress = afterEvent(progress, quantizing(1, 'a.q_proj'), 3000);
    expect(progress).toMatchObject({ stage: 'gptq quantize', done: 1, total: 4, path: 'a.q_proj' });
    expect(secondsLeft(progress, 3000)).toBe(6);
  });

  it('restarts its clock with a stage, and when the next recipe begins the same one', () => {
    const first = afterEvent(afterEvent(idle, stepStart, 0, 'gptq-2'), quantizing(4, ''), 5000);
    expect(first).toMatchObject({ stage: 'gptq-2 quantize', startedAt: 5000 });
    expect(afterEvent(first, { type: 'progress', step: 0, stage: 'finetune', path: '', done: 1, total: 10 }, 6000).startedAt).toBe(6000);
    expect(advance(advance(idle, 'text', 'a', 75, 75, 0), 'text', 'b', 1, 75, 7000).startedAt).toBe(7000);
  });

  it('formats durations', () => {
    expect([8.4, 59.6, 200, 7500].map(formatDuration)).toEqual(['8 s', '1 min 0 s', '3 min 20 s', '2 h 5 min']);
  });

  it('fits a bar into the columns', () => {
    const progress = { ...idle, stage: 'gptq', path: 'model.layers.10.mlp.down_proj', done: 2, total: 4, startedAt: 0 };
    expect(formatBar(progress, 4000, 120)).toBe('gptq ━━━━━━━━━━━━──────────── 2/4 · 4 s left · model.layers.10.mlp.down_proj');
    expect(formatBar(progress, 4000, 50)).toHaveLength(49);
  });
});

describe('reporter', () => {
  it('redraws one line on a terminal and clears it for notes', () => {
    const terminal = recorder(true);
    const reporter = createReporter(terminal, { isQuiet: false, now: () => 0 });
    reporter.event(stepStart);
    reporter.event(quantizing(0, ''));
    reporter.note('loaded');
    reporter.end();
    expect(terminal.text()).toMatch(/^\r.\[2Kgptq quantize ─+ 0\/4\r.\[2Kloaded\n$/u);
  });

  it('prints a plain line now and then elsewhere', () => {
    let time = 0;
    const terminal = recorder(false);
    const reporter = createReporter(terminal, { isQuiet: false, now: () => time });
    reporter.event(stepStart);
    reporter.event(quantizing(0, ''));
    time = 6000;
    reporter.event(quantizing(1, 'a'));
    time = 6100;
    reporter.event(quantizing(2, 'b'));
    expect(terminal.text()).toBe('gptq quantize: 1 of 4, 18 s left\n');
  });

  it('prints warnings even when quiet, and nothing else', () => {
    const terminal = recorder(true);
    const reporter = createReporter(terminal, { isQuiet: true, now: () => 0 });
    reporter.note('loaded');
    reporter.event(stepStart);
    reporter.event({ type: 'warning', step: 0, path: 'model.layers.0', code: 'DAMPENING', message: 'needed 0.1' });
    expect(terminal.text()).toBe('warning: DAMPENING: model.layers.0: needed 0.1\n');
  });
});

// The table of a run's layers, from its events.
import type { RunEvent } from '@lowbit/core';
import { expect, it } from 'vitest';
import { createLayerTable } from '../src/layer-table.js';
import { createRunFiles } from '../src/run-files.js';

const path = 'model.layers.0.mlp.up_proj';
const done = {
  type: 'linear-done',
  step: 1,
  path,
  error: 0.25,
  nearestError: 0.5,
  tokens: 72,
  bitsPerWeight: 3,
  milliseconds: 1234.4,
} as const;
const start: RunEvent = { type: 'step-start', step: 1, method: 'gptq', targets: 1 };
const log: RunEvent = { type: 'log', step: 1, path, record: { loss: 0.2, dampening: 0.1, deadInputs: 3, trace: [1] } };
const warning = (code: string): RunEvent => ({ type: 'warning', step: 1, path, code, message: 'raised from 0.01 to 0.1, twice' });

it('has a line for each Linear, with what was logged and warned of before it was done', () => {
  const table = createLayerTable();
  expect(table.text()).toBeUndefined();
  const other: RunEvent = { ...done, path: 'a,"b"', error: undefined, nearestError: undefined, tokens: undefined };
  for (const event of [start, log, warning('GPTQ_DAMPENING'), warning('GPTQ_DAMPENING'), warning('GRAM_SINGULAR'), done, other])
    table.event(event);
  expect(table.text()?.split('\n')).toEqual([
    'step,method,path,loss,relative_error,nearest_error,dampening,dead_inputs,tokens,bits_per_weight,seconds,warnings',
    `1,gptq,${path},0.2,0.25,0.5,0.1,3,72,3,1.234,GPTQ_DAMPENING GRAM_SINGULAR`,
    '1,gptq,"a,""b""",,,,,,,3,1.234,',
    '',
  ]);
});

it('has one line for a Linear that several stages of a step work on: the error after the last, the time of all', () => {
  const table = createLayerTable();
  const refined: RunEvent = { ...done, error: 0.125, nearestError: undefined, tokens: undefined, bitsPerWeight: 4, milliseconds: 1000 };
  for (const event of [start, done, refined, { ...done, step: 2 }]) table.event(event);
  const lines = table.text()?.split('\n');
  expect(lines?.slice(1)).toEqual([`1,gptq,${path},,0.125,0.5,,,72,4,2.234,`, `2,,${path},,0.25,0.5,,,72,3,1.234,`, '']);
});

it('lies beside the checkpoint as layers.csv, and nowhere where no Linear was done', async () => {
  const files = createRunFiles();
  files.event(start);
  expect([...files.files().keys()]).toEqual([]);
  files.event(done);
  expect([...files.files().keys()]).toEqual(['layers.csv']);
  expect(Buffer.from((await files.files().get('layers.csv')?.read()) ?? '').toString()).toContain(`1,gptq,${path},,0.25,`);
});

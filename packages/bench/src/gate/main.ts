// bench:gate: each method's added loss on the embedded model, against the one that is committed; `--record` writes new ones.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { buildBuiltIn } from '../built-in.js';
import { cellsOf, makePlan, planDigest } from '../plan.js';
import { provenanceOf } from '../provenance.js';
import { isScore } from '../row.js';
import { runCells } from '../run.js';
import { type GateRecord, gateDraft, gateText, judgeLosses, lossesOf, RECORDED_SEEDS } from './gate.js';

const file = fileURLToPath(new URL('losses.json', import.meta.url));
const isRecording = process.argv.includes('--record');
const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

const started = performance.now();
const plan = await makePlan(gateDraft, buildBuiltIn);
const digest = planDigest(plan);
const committed = isRecording ? undefined : (JSON.parse(readFileSync(file, 'utf8')) as GateRecord);
if (committed && committed.digest !== digest) {
  say('bench:gate: the committed losses are those of other recipes, text or versions of methods; measure them anew with --record');
  process.exit(1);
}
const backend = await createOnnxBackend();
const whole = isRecording ? { ...plan, seeds: RECORDED_SEEDS } : plan;
const rows = await runCells(whole, cellsOf(whole), {
  ...{ backend, directory: process.cwd(), buildRecipe: buildBuiltIn },
  onCell: ({ recipe, seed, left }) => say(`${recipe}, seed ${seed}; ${left} left`),
});
const { commit } = provenanceOf(backend);
await backend.dispose();
const losses = committed?.losses ?? lossesOf(rows);
const lines = judgeLosses(losses, rows);
say(`\n${gateText(lines, rows)}\n`);
const isBroken = rows.some((row) => !isScore(row)) || lines.some(({ verdict }) => verdict === 'failed' || verdict === 'worse');
if (isRecording && !isBroken) writeFileSync(file, `${JSON.stringify({ digest, commit, losses } satisfies GateRecord, undefined, 2)}\n`);
if (lines.some(({ verdict }) => verdict === 'better')) say('Some are better than committed by more than noise: record them with --record.');
say(`${((performance.now() - started) / 1000).toFixed(0)} s`);
process.exitCode = isBroken ? 1 : 0;

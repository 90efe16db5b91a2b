// bench:gate: each method's scores on the embedded model, against those that are committed; `--record` writes new ones.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { buildBuiltIn } from '../built-in.js';
import { cellsOf, makePlan, planDigest } from '../plan.js';
import { provenanceOf } from '../provenance.js';
import { type BenchRow, isScore } from '../row.js';
import { runCells } from '../run.js';
import { type GateRecord, gateDraft, gateText, judgeOrders, judgeScores, RECORDED_SEEDS, recordOf } from './gate.js';

const file = fileURLToPath(new URL('losses.json', import.meta.url));
const isRecording = process.argv.includes('--record');
const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};
const refuse = (reason: string): never => {
  say(`bench:gate: ${reason}`);
  process.exit(1);
};

const started = performance.now();
const plan = await makePlan(gateDraft, buildBuiltIn);
const digest = planDigest(plan);
if (!isRecording && !existsSync(file)) refuse('no losses are committed; measure them with --record');
const committed = isRecording ? undefined : (JSON.parse(readFileSync(file, 'utf8')) as GateRecord);
if (committed && committed.digest !== digest)
  refuse('the committed losses are those of other recipes, text or versions of methods; measure them anew with --record');
// One thread, so that another number of cores gives the same bytes.
const backend = await createOnnxBackend({ threads: 1 });
const { commit, backend: engine } = provenanceOf(backend);
if (isRecording && (commit === null || commit.endsWith('+')))
  refuse('figures are recorded of what is committed, so that they can be measured again; commit the changes first');
const rows: BenchRow[] = [];
const seeds = isRecording ? RECORDED_SEEDS : plan.seeds;
for (const [i, seed] of seeds.entries()) {
  const seeded = { ...plan, seeds: [seed] };
  const own = await runCells(seeded, cellsOf(seeded), {
    ...{ backend, directory: process.cwd(), buildRecipe: buildBuiltIn },
    onCell: ({ recipe, left }) => say(`${recipe}, seed ${seed}; ${left} left`),
  });
  rows.push(...own);
  if (!isRecording || !rows.every(isScore)) continue;
  // Seed by seed, since it takes a while.
  const record: GateRecord = { digest, commit, engine, seeds: seeds.slice(0, i + 1), recipes: recordOf(rows) };
  writeFileSync(file, `${JSON.stringify(record, undefined, 2)}\n`);
}
await backend.dispose();
const isComplete = rows.every(isScore);
const lines = judgeScores(committed?.recipes ?? recordOf(rows), rows);
const orders = judgeOrders(rows);
say(`\n${gateText(lines, orders, rows)}\n`);
if (lines.some(({ verdict }) => verdict === 'better')) say('Some are better than recorded: record them with --record.');
say(`${((performance.now() - started) / 1000).toFixed(0)} s`);
const isBroken = lines.some(({ verdict }) => verdict === 'failed' || verdict === 'worse') || orders.some(({ holds }) => !holds);
process.exitCode = isComplete && !isBroken ? 0 : 1;

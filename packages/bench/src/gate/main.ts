// bench:gate: each method's added loss on the embedded model, against the one that is committed; `--record` writes new ones.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { buildBuiltIn } from '../built-in.js';
import { cellsOf, makePlan, planDigest } from '../plan.js';
import { provenanceOf } from '../provenance.js';
import { type BenchRow, isScore } from '../row.js';
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
if (!isRecording && !existsSync(file)) {
  say('bench:gate: no losses are committed; measure them with --record');
  process.exit(1);
}
const committed = isRecording ? undefined : (JSON.parse(readFileSync(file, 'utf8')) as GateRecord);
if (committed && committed.digest !== digest) {
  say('bench:gate: the committed losses are those of other recipes, text or versions of methods; measure them anew with --record');
  process.exit(1);
}
const backend = await createOnnxBackend();
const { commit } = provenanceOf(backend);
const rows: BenchRow[] = [];
const run = async (seed: number): Promise<void> => {
  const seeded = { ...plan, seeds: [seed] };
  const own = await runCells(seeded, cellsOf(seeded), {
    ...{ backend, directory: process.cwd(), buildRecipe: buildBuiltIn },
    onCell: ({ recipe, left }) => say(`${recipe}, seed ${seed}; ${left} left`),
  });
  rows.push(...own);
};
if (committed) await run(plan.seeds[0]);
else {
  for (const [i, seed] of RECORDED_SEEDS.entries()) {
    await run(seed);
    // Seed by seed, since it takes a while.
    const record: GateRecord = { digest, commit, seeds: RECORDED_SEEDS.slice(0, i + 1), losses: lossesOf(rows) };
    writeFileSync(file, `${JSON.stringify(record, undefined, 2)}\n`);
  }
}
await backend.dispose();
const lines = judgeLosses(committed?.losses ?? lossesOf(rows), rows);
say(`\n${gateText(lines, rows)}\n`);
if (lines.some(({ verdict }) => verdict === 'better')) say('Some are better than committed by more than noise: record them with --record.');
say(`${((performance.now() - started) / 1000).toFixed(0)} s`);
const isBroken = rows.some((row) => !isScore(row)) || lines.some(({ verdict }) => verdict === 'failed' || verdict === 'worse');
process.exitCode = isBroken ? 1 : 0;

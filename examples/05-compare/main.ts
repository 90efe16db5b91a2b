// What loses least at 2 bits? Recipes on one calibration text and one held-out text, two seeds, and which differences are more than noise.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type BenchRow, isScore, runBenchmark, summarizeRows } from '@lowbit/bench';
import { gptq } from '@lowbit/gptq';
import { rtn } from '@lowbit/rtn';

const codes = { bits: 2, groupSize: 32 };

const backend = await createOnnxBackend();
const rows = await runBenchmark({
  backend,
  models: ['tiny'],
  recipes: [
    { name: 'rtn-2', recipe: [rtn(codes)] },
    // GPTQ searches ranges for the least error, rather than taking the least weight to the largest. How much of its gain is that?
    { name: 'rtn-2-mse', recipe: [rtn({ ...codes, clip: 'mse' })] },
    { name: 'gptq-2', recipe: [gptq(codes)] },
  ],
  evaluators: ['text'],
  // A seed draws the calibration text: several say how much of a difference is luck.
  seeds: [0, 1],
  // Little of it, so that this takes seconds.
  calibration: { windows: 16, window: 128 },
  heldOut: { windows: 16, window: 128 },
  directory: process.cwd(),
  onCell: ({ recipe, seed, left }) => console.log(`${recipe}, seed ${seed}; ${left} left`),
});
await backend.dispose();

console.log(`\n${summarizeRows(rows)}\n`);

/** The loss that a recipe adds to the dense model, nats per token: mean over the seeds. */
function addedLoss(recipe: string): number {
  const isOwn = (row: BenchRow): boolean => row.recipe === recipe && row.evaluator === 'loss-gap';
  const losses = rows.filter(isScore).filter(isOwn);
  return losses.reduce((sum, { value }) => sum + value, 0) / losses.length;
}

// The check compares these with expected.json.
console.log(JSON.stringify({ rtn: addedLoss('rtn-2'), searched: addedLoss('rtn-2-mse'), gptq: addedLoss('gptq-2') }));

// @lowbit/bench: models by recipes by evaluators by seeds, as rows and tables.
export { ADVICE_RECIPE, openAdviceFolder } from './advise/folder.js';
export { checkAdvice } from './advise/plan.js';
export { adviceReport, verdict } from './advise/report.js';
export {
  type Advice,
  type AdvicePlan,
  type AdviceRecipe,
  advise,
  type Candidate,
  type DamageReport,
  type Trial,
} from './advise/strategy.js';
export { adviceMetrics, parseThreshold } from './advise/threshold.js';
export { openWorkbench, type PartKind } from './advise/workbench.js';
export {
  type BackendRequest,
  backendName,
  backendNames,
  type ChosenBackend,
  chooseBackend,
  deviceNames,
  hasThreads,
  openBackend,
} from './backends.js';
export { buildBuiltIn } from './built-in.js';
export { type DiffLine, diffRuns, diffText, type RunDiff } from './diff.js';
export { type EvaluatorName, evaluatorName, evaluatorNames, evaluatorsOf, modelEvaluatorNames, readsText } from './evaluators.js';
export { type CheckedClaim, holds } from './experiment/claims.js';
export { drawFigure, type Figure } from './experiment/figure.js';
export { type ExperimentChanges, type ExperimentPlan, inOrder, planExperiment } from './experiment/plan.js';
export { type ExperimentReport, reportExperiment } from './experiment/report.js';
export { type ExperimentFolder, FIGURE, holdsRows, openExperimentFolder } from './experiment/row-file.js';
export { isFailed, isText } from './experiment/rows.js';
export { type ExperimentOptions, runExperiment } from './experiment/run-experiment.js';
export { type ExperimentSettings, settingsOf } from './experiment/settings.js';
export {
  type CellResult,
  engineIn,
  holdsRun,
  type LogLine,
  openRunFolder,
  REPORT,
  type RunFiles,
  type RunFolder,
  type RunRecord,
  readRun,
  recordOf,
} from './folder.js';
export { type MatmulRate, matmulRate } from './matmul-rate.js';
export { modelName, modelNames, type ResolvedModel, resolveModel } from './model-reference.js';
export { nearestRounding } from './nearest-rounding.js';
export { type BenchCell, type BenchProgress, type CellOutcome, DENSE, type LogRecord, type RunHooks } from './outcome.js';
export { pinPlan } from './pinned-plan.js';
export {
  type BenchPlan,
  type BenchRecipe,
  type BenchStep,
  cellKey,
  cellsOf,
  makePlan,
  type PlanDraft,
  type PlanEngine,
  planDigest,
} from './plan.js';
export { checkPlanFiles, planFiles } from './plan-files.js';
export { presetNames, presetOf } from './presets.js';
export { describeCode, provenanceOf, queueName } from './provenance.js';
export { runQueued } from './queue/coordinator.js';
export { runInProcesses } from './queue/local.js';
export { lostCellRows } from './queue/lost-cell.js';
export { openTaskProcess, type TaskModule, type TaskProcess } from './queue/process.js';
export { serveTasks } from './queue/serve.js';
export { type Task, type TaskHooks, taskError } from './queue/task.js';
export { serveQueue } from './queue/worker.js';
export { type ClosedGap, closedGaps } from './ranking.js';
export { type NamedRecipe, needsData, summarizeRecipe } from './recipe.js';
export { type ReportOptions, renderReport } from './report/page.js';
export { type PlotOptions, renderPlot } from './report/plot.js';
export { type BenchRow, type FailedRow, hasFailed, isScore, type Provenance, readRow, type ScoreRow } from './row.js';
export { type Benchmark, type BenchOptions, openPlan, type PlanContext, runBenchmark, runCells } from './run.js';
export { dropLostLock, lockRun, type RunLock } from './run-lock.js';
export { didYouMean } from './suggestion.js';
export { openSuite, type SuiteSource, suiteData, suiteName, suiteNames } from './suite.js';
export { summarizeRows } from './summary.js';
export { markdownTable } from './table.js';
export { type OpenedTask, openTask, type TaskSource } from './tasks.js';
export { calibrationText, checkWindow, defaultWindow, type HeldOutSize, heldOutText, type TextSize, type TextSource } from './texts.js';

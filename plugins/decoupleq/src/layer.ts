// decoupleQ on one layer (arXiv 2404.12759): codes and scales improved in turn, each half-step kept only in the rows that it makes better.
import { throwIfAborted } from '@lowbit/core';
import { gptqCodes, roundToGrid, type ScaleDtype } from '@lowbit/quant';
import { accept, type LayerState, stepCodes, withCodes } from './layer-state.js';
import type { CodeStep, LayerProblem, Quantized, Scales } from './problem.js';
import { type RangeSearch, searchRange } from './range-search.js';
import { rowEnergies, rowErrors } from './row-errors.js';
import { everyRow } from './rows.js';
import { improveScales, type ScaleStepOptions } from './scale-step.js';
import { areFinite, canonical, coveringScales, shrunkScales } from './stored-scales.js';

export interface DecoupleSettings extends ScaleStepOptions {
  /** N: the first is GPTQ or rounding to nearest, or the given start; the others alternate. */
  readonly iterations: number;
  /** Where the alternation starts: the searched range, or the scales that suit the first codes. */
  readonly search: RangeSearch | 'none';
  readonly codeStep: CodeStep;
  /** A start instead of GPTQ and rounding to nearest: the result of any quantizer. Its range is not searched. */
  readonly init?: Quantized | undefined;
  /** Looked at between half-steps. */
  readonly signal?: AbortSignal | undefined;
}

/** One half-step. */
export interface TraceEntry {
  /** 'rtn', 'gptq' or 'init'; 'scales-start' where the first codes give the start; then 'codes-0', 'scales-0', 'codes-1', … */
  readonly step: string;
  /** Σ_r e_r / Σ_r w_r H w_rᵀ after it. */
  readonly loss: number;
  /** Share of the rows that took it. */
  readonly accepted: number;
}

export interface DecoupleResult {
  readonly quantized: Quantized;
  /** e_r = (ŵ_r − w_r)H(ŵ_r − w_r)ᵀ, [out]. */
  readonly errors: Float64Array;
  readonly loss: number;
  readonly trace: readonly TraceEntry[];
  /** Losses of rounding to nearest and of GPTQ on the covering grid, each in all rows; undefined with `init`. */
  readonly nearestLoss: number | undefined;
  readonly gptqLoss: number | undefined;
  /** How scales and offsets are stored: float32 where the layer's own range is beyond float16. */
  readonly scaleDtype: ScaleDtype;
  /** Scales that an S-step could not tell from the rest of their row, at most: all codes of their group are equal. */
  readonly heldScales: number;
}

/** The alternation ends when fewer rows than this share take a half-step. */
const LEAST_ACCEPTED = 1e-4;

/** Quantizes a weight so that Σ_r (ŵ_r − w_r)H(ŵ_r − w_r)ᵀ is small; the error of no row ever rises from one half-step to the next. */
export async function decouple(problem: LayerProblem, settings: DecoupleSettings): Promise<DecoupleResult> {
  const { iterations, search, codeStep, init, signal } = settings;
  const { covering, scaleDtype } = coveringGrid(problem, settings.scaleDtype, init);
  const options: ScaleStepOptions = { ridge: settings.ridge, scaleDtype };
  const all = everyRow(problem.outFeatures);
  const { trace, record, lossOf } = await tracer(problem);
  const first = init ? await givenStart(problem, canonical(problem, init, scaleDtype)) : await plainStart(problem, covering);
  for (const { step, state, accepted } of first.steps) record(step, state, accepted);

  let { state } = first;
  let heldScales = 0;
  const improve = async (step: string, rows: Int32Array): Promise<Int32Array> => {
    throwIfAborted(signal);
    const { quantized, change, held } = await improveScales(problem, state.quantized, rows, options);
    heldScales = Math.max(heldScales, held);
    state = { quantized, errors: state.errors.map((error, r) => Math.max(0, error + change[r])) };
    const improved = rows.filter((row) => change[row] < 0);
    record(step, state, improved.length);
    return improved;
  };
  const isSettled = ({ length }: Int32Array): boolean => length < LEAST_ACCEPTED * problem.outFeatures;
  // Rows whose scales have changed since codes were last sought for them: the others would get the codes that they have or refused.
  let open = all;
  for (let iteration = 0; iteration < iterations - 1; iteration++) {
    let start: Scales | undefined;
    if (iteration === 0 && (init || search === 'none')) await improve('scales-start', all);
    else if (iteration === 0 && search !== 'none') start = await searchedScales(problem, covering, search, first.losses[0], options);
    throwIfAborted(signal);
    const candidates = await stepCodes(problem, start ?? state.quantized, open, codeStep);
    const { state: next, accepted } = accept(problem, state, candidates, open);
    state = next;
    record(`codes-${iteration}`, state, accepted.length);
    if (iteration > 0 && isSettled(accepted)) break;
    // Rows that kept their codes have the best scales for them already, but for the first codes.
    const improved = await improve(`scales-${iteration}`, iteration === 0 ? all : accepted);
    if (isSettled(improved)) break;
    open = iteration === 0 ? all : improved;
  }
  const [nearestLoss, gptqLoss] = first.losses.map(lossOf);
  return { ...state, loss: lossOf(state.errors), trace, nearestLoss, gptqLoss, scaleDtype, heldScales };
}

/** Collects the trace of a layer. */
async function tracer(problem: LayerProblem): Promise<{
  readonly trace: TraceEntry[];
  /** A half-step that `accepted` rows took. */
  record(step: string, state: LayerState, accepted: number): void;
  lossOf(errors: Float64Array): number;
}> {
  const energy = total(await rowEnergies(problem));
  const trace: TraceEntry[] = [];
  const lossOf = (errors: Float64Array): number => (energy > 0 ? total(errors) / energy : 0);
  const record = (step: string, { errors }: LayerState, accepted: number): void => {
    trace.push({ step, loss: lossOf(errors), accepted: accepted / problem.outFeatures });
  };
  return { trace, record, lossOf };
}

/** What the first iteration gives. */
interface Start {
  readonly state: LayerState;
  /** In the order of the trace; `accepted` in rows. */
  readonly steps: readonly { readonly step: string; readonly state: LayerState; readonly accepted: number }[];
  /** Errors of rounding to nearest and of GPTQ, [out] each; none of a given start. */
  readonly losses: readonly Float64Array[];
}

async function givenStart(problem: LayerProblem, quantized: Quantized): Promise<Start> {
  const state: LayerState = { quantized, errors: await rowErrors(problem, quantized) };
  return { state, steps: [{ step: 'init', state, accepted: problem.outFeatures }], losses: [] };
}

/** Rounding to nearest or GPTQ on the covering grid, whichever is better in each row. */
async function plainStart(problem: LayerProblem, covering: Scales): Promise<Start> {
  const { backend, factor, weight, outFeatures } = problem;
  const grid = { ...problem, ...covering };
  const nearest = await withCodes(problem, covering, roundToGrid(weight, grid));
  const feedback = await withCodes(problem, covering, await gptqCodes(backend, factor, weight, grid));
  const { state, accepted } = accept(problem, nearest, feedback, everyRow(outFeatures));
  const steps = [
    { step: 'rtn', state: nearest, accepted: outFeatures },
    { step: 'gptq', state, accepted: accepted.length },
  ];
  return { state, steps, losses: [nearest.errors, feedback.errors] };
}

/** Scales to begin with: the best searched range, then the S-step on the codes of rounding to nearest there. */
async function searchedScales(
  problem: LayerProblem,
  covering: Scales,
  search: RangeSearch,
  nearestErrors: Float64Array,
  options: ScaleStepOptions,
): Promise<Scales> {
  const { shrink } = await searchRange(problem, covering, search, nearestErrors);
  const scales = shrunkScales(problem, covering, shrink, options.scaleDtype);
  const codes = roundToGrid(problem.weight, { ...problem, ...scales });
  return (await improveScales(problem, { ...scales, codes }, everyRow(problem.outFeatures), options)).quantized;
}

/** The grid that covers the weights, in float32 where its scales, or those of a given start, are beyond float16. */
function coveringGrid(problem: LayerProblem, wanted: ScaleDtype, init?: Quantized): { covering: Scales; scaleDtype: ScaleDtype } {
  const covering = coveringScales(problem, wanted);
  const fits = areFinite(covering) && (!init || areFinite(canonical(problem, init, wanted)));
  if (wanted === 'float32' || fits) return { covering, scaleDtype: wanted };
  return { covering: coveringScales(problem, 'float32'), scaleDtype: 'float32' };
}

function total(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}

// decoupleQ on one layer (arXiv 2404.12759): codes and scales improved in turn, each half-step kept only in the rows that it makes better.
import { gptqCodes, roundToGrid, type ScaleDtype } from '@lowbit/quant';
import { accept, type LayerState, withCodes } from './layer-state.js';
import type { CodeStep, LayerProblem, Quantized, Scales } from './problem.js';
import { type RangeSearch, searchRange } from './range-search.js';
import { rowEnergies, rowErrors } from './row-errors.js';
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
  /** Scales that the last S-steps could not tell from the rest of their row: all codes of their group are equal. */
  readonly heldScales: number;
}

/** The alternation ends when fewer rows than this share take a half-step. */
const LEAST_ACCEPTED = 1e-4;

/** Quantizes a weight so that Σ_r (ŵ_r − w_r)H(ŵ_r − w_r)ᵀ is small; the error of no row ever rises from one half-step to the next. */
export async function decouple(problem: LayerProblem, settings: DecoupleSettings): Promise<DecoupleResult> {
  const energies = await rowEnergies(problem);
  const energy = total(energies);
  const { covering, scaleDtype } = coveringGrid(problem, settings.scaleDtype);
  const options: ScaleStepOptions = { ridge: settings.ridge, scaleDtype };
  const all = Int32Array.from({ length: problem.outFeatures }, (_, r) => r);
  const lossOf = (errors: Float64Array): number => (energy > 0 ? total(errors) / energy : 0);
  const trace: TraceEntry[] = [];
  const record = (step: string, state: LayerState, accepted: number): number => {
    const share = accepted / problem.outFeatures;
    trace.push({ step, loss: lossOf(state.errors), accepted: share });
    return share;
  };

  let state: LayerState;
  let nearestLoss: number | undefined;
  let gptqLoss: number | undefined;
  if (settings.init) {
    const quantized = canonical(problem, settings.init, scaleDtype);
    state = { quantized, errors: await rowErrors(problem, quantized) };
    record('init', state, problem.outFeatures);
  } else {
    const nearest = await withCodes(problem, covering, roundToGrid(problem.weight, { ...problem, ...covering }));
    nearestLoss = lossOf(nearest.errors);
    record('rtn', nearest, problem.outFeatures);
    const feedback = await withCodes(
      problem,
      covering,
      await gptqCodes(problem.backend, problem.factor, problem.weight, { ...problem, ...covering }),
    );
    gptqLoss = lossOf(feedback.errors);
    const merged = accept(problem, nearest, feedback);
    state = merged.state;
    record('gptq', state, merged.rows.length);
  }
  let heldScales = 0;
  const scaleStep = async (from: LayerState, rows: Int32Array): Promise<{ state: LayerState; accepted: number }> => {
    const { quantized, change, held } = await improveScales(problem, from.quantized, rows, options);
    heldScales = held;
    return { state: { quantized, errors: from.errors.map((error, r) => Math.max(0, error + change[r])) }, accepted: negatives(change) };
  };
  for (let iteration = 0; iteration < settings.iterations - 1; iteration++) {
    let start: Scales = state.quantized;
    if (iteration === 0 && (settings.search === 'none' || settings.init)) {
      const improved = await scaleStep(state, all);
      state = improved.state;
      record('scales-start', state, improved.accepted);
      start = state.quantized;
    } else if (iteration === 0 && settings.search !== 'none') {
      start = await searchedScales(problem, covering, settings.search, all, options);
    }
    const merged = accept(problem, state, await withCodes(problem, start, await settings.codeStep(problem, start)));
    state = merged.state;
    if (record(`codes-${iteration}`, state, merged.rows.length) < LEAST_ACCEPTED && iteration > 0) break;
    // Rows that kept their codes have the best scales for them already, but for the first codes.
    const improved = await scaleStep(state, iteration === 0 ? all : merged.rows);
    state = improved.state;
    if (record(`scales-${iteration}`, state, improved.accepted) < LEAST_ACCEPTED) break;
  }
  return { ...state, loss: lossOf(state.errors), trace, nearestLoss, gptqLoss, scaleDtype, heldScales };
}

/** Scales to begin with: the best searched range, then the S-step on the codes of rounding to nearest there. */
async function searchedScales(
  problem: LayerProblem,
  covering: Scales,
  search: RangeSearch,
  rows: Int32Array,
  options: ScaleStepOptions,
): Promise<Scales> {
  const { shrink } = await searchRange(problem, covering, search);
  const scales = shrunkScales(problem, covering, shrink, options.scaleDtype);
  const codes = roundToGrid(problem.weight, { ...problem, ...scales });
  return (await improveScales(problem, { ...scales, codes }, rows, options)).quantized;
}

/** The grid that covers the weights, in float32 where its scales are beyond float16. */
function coveringGrid(problem: LayerProblem, wanted: ScaleDtype): { covering: Scales; scaleDtype: ScaleDtype } {
  const covering = coveringScales(problem, wanted);
  if (wanted === 'float32' || areFinite(covering)) return { covering, scaleDtype: wanted };
  return { covering: coveringScales(problem, 'float32'), scaleDtype: 'float32' };
}

function total(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}

function negatives(values: Float64Array): number {
  return values.reduce((count, value) => count + (value < 0 ? 1 : 0), 0);
}

// How far each quantized Linear's output is from the reference's on the same input.
import {
  type Block,
  type Evaluator,
  LowbitError,
  linear as linearProduct,
  materialize,
  mul,
  readFloats,
  type Score,
  sub,
  sum,
  type Tensor,
  tensor,
  throwIfAborted,
} from '@lowbit/core';
import type { TokenWindows } from '@lowbit/data';
import { ACTIVATION_BYTES, batchesOfWindows, embed, partsOf, type Run, type WindowBatch } from './hidden-states.js';
import { sharesBasis } from './same-basis.js';
import type { TextEvaluatorOptions } from './text-evaluator.js';

const VERSION = 1;

/**
 * Score 'layer-error': the mean over Linears of ‖X(Ŵ−W)ᵀ‖² / ‖XWᵀ‖², with W the reference's weight, Ŵ the model's effective one and X
 * what the reference's layer reads on the text; each Linear's own figure is in `parts`. A Linear whose shape differs from the
 * reference's has no such figure and is listed in `protocol.skipped`; a model in another basis has none at all.
 *
 * Standard error between windows: with e_l = Σ_w d_lw / Σ_w n_lw for layer l, window w contributes
 * u_w = mean_l (d_lw − e_l n_lw) / Σ_w n_lw, and se² = K/(K−1) · Σ_w u_w².
 */
export function layerErrorEvaluator(windows: TokenWindows, options: TextEvaluatorOptions = {}): Evaluator {
  const { batchTokens = 2048, activationBytes = ACTIVATION_BYTES } = options;
  const batches = batchesOfWindows(windows, Math.min(windows.count, Math.max(1, Math.floor(batchTokens / windows.length))));
  return {
    name: 'layer-error',
    version: VERSION,
    async evaluate(model, { backend, reference, signal, progress }) {
      if (!reference) throw new LowbitError('REFERENCE_MISSING', 'layer-error: compares with the dense model; pass it as the reference');
      if (reference.blocks.length !== model.blocks.length) {
        throw new LowbitError(
          'REFERENCE_MISMATCH',
          `layer-error: the model has ${model.blocks.length} blocks and the reference ${reference.blocks.length}; pass the dense model it was made from`,
        );
      }
      let done = 0;
      const run: Run = { backend, signal, tick: () => progress?.(++done, batches.length * (1 + reference.blocks.length)) };
      const layers = reference.blocks.map((block, index) => comparableLinears(block, model.blocks[index], windows.count));
      if (layers.flat().length === 0 || !(await sharesBasis(model, reference, backend, batches[0].tokens)))
        throw new LowbitError(
          'REFERENCE_MISMATCH',
          'layer-error: no Linear is comparable with its counterpart in the reference; the model was transformed, compare outputs instead (KL)',
        );
      for (const part of partsOf(batches, reference.width, 1, activationBytes)) {
        const states = await embed(reference, part, run);
        for (const [index, block] of reference.blocks.entries()) {
          await addBlock(await materialize(block), model.blocks[index], layers[index], part, windows, states, run);
        }
      }
      const compared = layers.flat();
      const paths = new Set(compared.map(({ path }) => path));
      const skipped = reference.blocks
        .flatMap((block) => Object.keys(block.linears).map((name) => `${block.path}.${name}`))
        .filter((path) => !paths.has(path));
      return [scoreOf(compared, skipped, windows, backend.name)];
    },
  };
}

/** A Linear that both models have, and its sums of squares by window. */
interface Layer {
  readonly path: string;
  readonly name: string;
  /** Name of the group whose input it reads. */
  readonly group: string;
  /** ‖X(Ŵ−W)ᵀ‖². */
  readonly error: Float64Array;
  /** ‖XWᵀ‖². */
  readonly power: Float64Array;
}

function comparableLinears(block: Block, other: Block, windows: number): Layer[] {
  const isSame = (name: string): boolean => {
    const [a, b] = [block.linears[name], other.linears[name]];
    return b !== undefined && a.inFeatures === b.inFeatures && a.outFeatures === b.outFeatures;
  };
  return block.groups.flatMap((group) =>
    group.linears.filter(isSame).map((name) => {
      return { path: `${block.path}.${name}`, name, group: group.name, error: new Float64Array(windows), power: new Float64Array(windows) };
    }),
  );
}

/** Adds a block's sums over some batches and replaces its inputs by its outputs. */
async function addBlock(
  block: Block,
  other: Block,
  layers: readonly Layer[],
  batches: readonly WindowBatch[],
  { length, scoredTo }: TokenWindows,
  states: Tensor[],
  run: Run,
): Promise<void> {
  // Ŵ − W, evaluated once for all batches: then the graph of a batch is the same whatever the model's Linears are.
  const differences = await run.backend.evaluate(
    layers.map(({ name }) => sub(other.linears[name].effectiveWeight(), block.linears[name].effectiveWeight())),
  );
  for (const [i, batch] of batches.entries()) {
    throwIfAborted(run.signal);
    const { output, inputs } = block.trace(states[i]);
    const isText = textMask(batch, length, scoredTo);
    const squares = layers.flatMap(({ name, group }, layer) =>
      [differences[layer], block.linears[name].effectiveWeight()].map((weight) =>
        squaresByWindow(linearProduct(inputs[group], weight), isText),
      ),
    );
    const [next, ...values] = await run.backend.evaluate([output, ...squares], { release: [states[i]] });
    states[i] = next;
    const columns = await Promise.all(values.map(readFloats));
    batch.windows.forEach((window, row) => {
      if (window < 0) return;
      layers.forEach(({ error, power }, layer) => {
        error[window] = columns[2 * layer][row];
        power[window] = columns[2 * layer + 1][row];
      });
    });
    run.tick();
  }
}

/** 1 for the tokens of a batch that are text, 0 for those that fill up a window or the batch: [batch, tokens]. */
function textMask({ windows }: WindowBatch, length: number, scoredTo: Int32Array): Tensor {
  const mask = new Float32Array(windows.length * length);
  windows.forEach((window, row) => {
    if (window >= 0) mask.fill(1, row * length, row * length + scoredTo[window]);
  });
  return tensor(mask, [windows.length, length]);
}

/** Σ y² over the text of each window: [batch, tokens, features] → [batch]. */
function squaresByWindow(y: Tensor, isText: Tensor): Tensor {
  return sum(mul(sum(mul(y, y), [-1]), isText), [-1]);
}

function scoreOf(layers: readonly Layer[], skipped: readonly string[], windows: TokenWindows, backend: string): Score {
  const influence = new Float64Array(windows.count);
  const errors = layers.map(({ path, error, power }) => {
    const total = power.reduce((a, b) => a + b, 0);
    const ratio = error.reduce((a, b) => a + b, 0) / total;
    for (const w of influence.keys()) influence[w] += (error[w] - ratio * power[w]) / total / layers.length;
    return { path, error: ratio };
  });
  const spread = influence.reduce((a, u) => a + u * u, 0);
  return {
    evaluator: 'layer-error',
    version: VERSION,
    value: errors.reduce((a, { error }) => a + error, 0) / errors.length,
    stderr: windows.count > 1 ? Math.sqrt((windows.count / (windows.count - 1)) * spread) : Number.NaN,
    samples: errors.length,
    higherIsBetter: false,
    parts: Object.fromEntries(errors.map(({ path, error }) => [path, error])),
    protocol: {
      ...windows.protocol,
      dtype: 'float32',
      backend,
      ...(skipped.length > 0 && { skipped }),
    },
  };
}

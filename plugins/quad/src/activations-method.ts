// Rounds activations as they are, without any rotation: the baseline of `rotate` and `quad`.
import { absmax, defineMethod, energy, type Linear, LowbitError, type Model, readFloats, type Statistic } from '@lowbit/core';
import { ActivationQuantizedLinear } from '@lowbit/quant';
import { inputMagnitudes } from './magnitudes.js';
import { activationsOptions } from './options.js';

/** Every targeted Linear reads its input through a per-token quantizer; weights are left to other steps, before or after. */
export const activations = defineMethod({
  name: 'activations',
  version: 1,
  description: 'Round the inputs of Linears token by token, without a rotation',
  options: activationsOptions,
  statistics: ({ magnitudes }): Readonly<Record<string, Statistic>> => (magnitudes ? { absmax, energy } : {}),
  async quantizeLinear(linear, { options, path, model, stats, rows, log }) {
    requireUnrounded(linearAt(model, path), path);
    if (options.magnitudes) log({ ...inputMagnitudes(await readFloats(stats.absmax), await readFloats(stats.energy), rows) });
    return new ActivationQuantizedLinear(linear, options);
  },
});

function linearAt(model: Model, path: string): Linear | undefined {
  const block = model.blocks.find((one) => path.startsWith(`${one.path}.`));
  return block?.linears[path.slice(block.path.length + 1)];
}

/** Whatever wraps the layer: a part of it is what methods see. @throws ACTIVATIONS_ROUNDED */
function requireUnrounded(linear: Linear | undefined, path: string): void {
  const has = (state: { kind: string; parts?: Readonly<Record<string, { kind: string }>> }): boolean =>
    state.kind === 'activation-quantized' || Object.values(state.parts ?? {}).some(has);
  if (!linear || !has(linear.state())) return;
  throw new LowbitError('ACTIVATIONS_ROUNDED', `${path}: its input is rounded already; leave it out of this step's targets, or round once`);
}

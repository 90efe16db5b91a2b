// Runs the quantized layers of a model in integers, instead of on the floats that codes stand for.
import type { Linear, Model } from '@lowbit/core';
import { integerForm } from '@lowbit/quant';

export interface IntegerExecution {
  /** The model that computes in integers where it can. */
  readonly model: Model;
  /** Paths of the Linears that do. */
  readonly integer: readonly string[];
  /** The other Linears, which stay as they are. */
  readonly simulated: readonly SimulatedLinear[];
}

export interface SimulatedLinear {
  readonly path: string;
  /** Why it is not computed in integers, continuing a sentence about it: 'its input has 16 bits, …'. */
  readonly reason: string;
}

/**
 * The same model with every layer of quantized weights and activations multiplying codes in integers (`IntegerLinear`). Outputs differ from
 * the simulated model's by the rounding of float32 sums; where a sum decides how a later activation is rounded, that activation by a step.
 * Names, sizes and what is saved are the simulated model's.
 */
export function integerExecution(model: Model): IntegerExecution {
  const integer: string[] = [];
  const simulated: SimulatedLinear[] = [];
  const convert = (linear: Linear, path: string): Linear => {
    const form = integerForm(linear);
    if ('linear' in form) integer.push(path);
    else simulated.push({ path, reason: form.obstacle });
    return 'linear' in form ? form.linear : linear;
  };
  const blocks = model.blocks.map((block) => {
    const linears = Object.entries(block.linears).map(([name, linear]) => [name, convert(linear, `${block.path}.${name}`)] as const);
    return block.with({ linears: Object.fromEntries(linears) });
  });
  const head = convert(model.head, 'lm_head');
  return { model: model.with({ blocks, head }), integer, simulated };
}

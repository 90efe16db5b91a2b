// Runs of recipes on toy models, and what tests ask of the models that come out.
import { type Backend, type Linear, type Model, type RunEvent, readFloats, type Tensor } from '@lowbit/core';
import { type QuantizeOptions, type QuantizeResult, quantize } from '@lowbit/pipeline';

export interface ToyRun extends Pick<QuantizeResult, 'model' | 'warnings'> {
  /** What methods logged of the whole model. */
  readonly records: readonly Readonly<Record<string, unknown>>[];
}

/** quantize with the seed 3. */
export async function toyRun(options: QuantizeOptions): Promise<ToyRun> {
  const records: Readonly<Record<string, unknown>>[] = [];
  const onEvent = (event: RunEvent): void => {
    if (event.type === 'log' && event.path === 'model') records.push(event.record);
  };
  const { model, warnings } = await quantize({ seed: 3, onEvent, ...options });
  return { model, records, warnings };
}

/** All Linears by path. */
export function linearsOf(model: Model): [path: string, linear: Linear][] {
  return model.blocks.flatMap(({ path, linears }) =>
    Object.entries(linears).map(([name, linear]): [string, Linear] => [`${path}.${name}`, linear]),
  );
}

/** A model's logits of windows of tokens. */
export async function logitsOn(backend: Backend, model: Model, tokens: Tensor): Promise<number[]> {
  const [logits] = await backend.evaluate([model.forward(tokens)]);
  return [...(await readFloats(logits))];
}

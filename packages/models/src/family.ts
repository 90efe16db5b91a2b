// What a model family is: how its config.json is read, and how its parts are made from a checkpoint's tensors.
import type { ModelConfig, ModelParts } from '@lowbit/core';
import type { WeightReader } from './weight-reader.js';

/** A config.json that has been understood. */
export interface Architecture {
  readonly config: ModelConfig;
  /** The model's parts over lazy tensors; every tensor's presence and shape is checked. */
  build(weights: WeightReader): Omit<ModelParts, 'config'>;
}

/**
 * Reads a config.json of this family.
 * @throws MODEL_CONFIG for a missing or wrong setting, MODEL_OPTION for one that would change results and is not supported.
 */
export type Family = (source: Readonly<Record<string, unknown>>) => Architecture;

// From a checkpoint to a model: the family is found by its name in config.json, the rest is the family's.
import { type LinearKinds, LowbitError, Model, type ModelConfig } from '@lowbit/core';
import type { Checkpoint } from '@lowbit/formats';
import { linearKinds } from '@lowbit/quant';
import type { Family } from './family.js';
import { gpt2 } from './gpt2-family.js';
import { llama, mistral, qwen2, qwen3 } from './llama-family.js';
import { opt } from './opt-family.js';
import { WeightReader } from './weight-reader.js';

/** The families that can be loaded, by `model_type`. */
export const families: Readonly<Record<string, Family>> = { llama, mistral, qwen2, qwen3, gpt2, opt };

export interface LoadModelOptions {
  /** Restorers of quantized Linears beside the built-in ones of @lowbit/quant. */
  readonly kinds?: LinearKinds;
}

/**
 * The model of a checkpoint. Names, shapes and settings are checked now; weights are read when they are touched.
 * @throws MODEL_UNKNOWN for another architecture, MODEL_CONFIG and MODEL_OPTION for a config.json that is wrong or asks for what is
 * not computed, TENSOR_MISSING, TENSOR_SHAPE, TENSOR_DTYPE, CHECKPOINT_QUANTIZED and LINEAR_KIND for tensors, by name.
 */
export async function loadModel(checkpoint: Checkpoint, { kinds = {} }: LoadModelOptions = {}): Promise<Model> {
  try {
    const { config, build } = familyOf(checkpoint.config)(checkpoint.config);
    const model = new Model({ config, ...build(new WeightReader(checkpoint, { ...linearKinds, ...kinds })) });
    const stray = [...(checkpoint.keyValues?.keys() ?? [])].find((path) => !model.blocks.some((block) => block.path === path));
    if (stray !== undefined)
      throw new LowbitError(
        'MODEL_CONFIG',
        `config.json: lowbit.keyValues names '${stray}', which is no block of the model; the section is damaged`,
      );
    return model;
  } catch (cause) {
    if (!(cause instanceof LowbitError) || cause.message.includes(checkpoint.path)) throw cause;
    throw new LowbitError(cause.code, `${checkpoint.path}: ${cause.message.slice(cause.code.length + 2)}`, { cause });
  }
}

/** What a config.json says of its model. @throws MODEL_UNKNOWN, MODEL_CONFIG, MODEL_OPTION */
export function modelConfig(source: Readonly<Record<string, unknown>>): ModelConfig {
  return familyOf(source)(source).config;
}

function familyOf(config: Readonly<Record<string, unknown>>): Family {
  const name = config.model_type;
  const known = Object.keys(families).join(', ');
  if (typeof name !== 'string') throw new LowbitError('MODEL_CONFIG', `config.json: model_type is missing; known are ${known}`);
  if (!Object.hasOwn(families, name))
    throw new LowbitError('MODEL_UNKNOWN', `config.json: model_type '${name}' is not supported; choose a model of one of ${known}`);
  return families[name];
}

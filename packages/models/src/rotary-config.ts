// Rotary settings as config.json files of transformers 4 and 5 write them, brought to one form.
import { LowbitError } from '@lowbit/core';
import { z } from 'zod';
import type { RotaryScaling } from './attention-positions.js';
import type { PositionLimit } from './block-design.js';
import { requireSupported, unsupported } from './config-source.js';
import type { LlamaSource } from './llama-config.js';

export interface RotaryConfig {
  readonly theta: number;
  readonly scaling: RotaryScaling;
  readonly limit: PositionLimit | undefined;
}

const positive = z.number().positive();
const linearSchema = z.object({ factor: positive });
const llama3Schema = z.object({
  factor: positive,
  low_freq_factor: positive,
  high_freq_factor: positive,
  original_max_position_embeddings: z.int().positive(),
});

/** Why a scaling that exists is refused. */
const refusedScalings: Readonly<Record<string, string>> = {
  yarn: 'it also rescales the attention logits, which is not computed',
  longrope: 'its factors change with the length of the sequence, which is not computed',
};

/**
 * Theta and scaling from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before).
 * @throws MODEL_OPTION for a scaling that is not computed, MODEL_CONFIG for one with missing or wrong settings.
 */
export function rotaryConfig(source: LlamaSource): RotaryConfig {
  const given = source.rope_parameters ?? source.rope_scaling ?? {};
  const type: unknown = given.rope_type ?? given.type ?? 'default';
  const theta = parse(positive, given.rope_theta ?? source.rope_theta ?? 10000, 'rope_theta');
  if (given.partial_rotary_factor != null) requireSupported('partial_rotary_factor', given.partial_rotary_factor, [1]);
  switch (type) {
    case 'default':
      return { theta, scaling: { type: 'default' }, limit: undefined };
    case 'linear':
      return { theta, scaling: { type: 'linear', factor: parse(linearSchema, given, 'rope scaling').factor }, limit: undefined };
    case 'llama3':
      return { theta, scaling: llama3Scaling(given), limit: undefined };
    case 'dynamic': {
      // Frequencies are the unscaled ones up to the trained length; beyond it they depend on the length of the sequence.
      const positions = source.max_position_embeddings;
      const reason = 'dynamic rope scaling changes the frequencies beyond max_position_embeddings';
      return { theta, scaling: { type: 'default' }, limit: { positions, reason } };
    }
    default: {
      const name = typeof type === 'string' ? type : JSON.stringify(type);
      throw unsupported(
        `rope scaling '${name}'`,
        `${refusedScalings[name] ?? 'it is not known'}; supported: default, linear, llama3, dynamic`,
      );
    }
  }
}

function llama3Scaling(given: Readonly<Record<string, unknown>>): RotaryScaling {
  const {
    factor,
    low_freq_factor: low,
    high_freq_factor: high,
    original_max_position_embeddings: original,
  } = parse(llama3Schema, given, 'rope scaling');
  if (high <= low)
    throw new LowbitError(
      'MODEL_CONFIG',
      `config.json: rope scaling: high_freq_factor ${high} must be above low_freq_factor ${low}; correct it`,
    );
  return { type: 'llama3', factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContextLength: original };
}

function parse<S extends z.ZodType>(schema: S, value: unknown, where: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) => [...path, message].join(': '));
  throw new LowbitError('MODEL_CONFIG', `config.json: ${where}: ${problems.join('; ')}; correct it`);
}

// config.json: the source model's configuration, and the section that lowbit adds for quantized Linears.
import { LowbitError } from '@lowbit/core';
import { keyValuesSchema } from '@lowbit/quant';
import { z } from 'zod';
import { linearRecordSchema } from './linear-record.js';
import { readJsonObject } from './read-file.js';
import { stepRecordSchema } from './step-record.js';

export const CONFIG_FILE = 'config.json';

/**
 * Highest version of the `lowbit` section. It grows when older readers would misread a newer file: 2 may have the width of a widened
 * residual stream and the rounding of keys and values, which readers of version 1 do not look at.
 */
const FORMAT_VERSION = 2;

/**
 * `quantization_config.quant_method` of a checkpoint with quantized Linears. Without it other loaders would take the missing
 * weights for a new model's and initialise them at random; with it they refuse the file.
 */
export const QUANT_METHOD = 'lowbit';

// What every Hugging Face config has in common; what the fields of a family mean is for the models package to say.
const configSchema = z
  .looseObject({
    model_type: z.string().optional(),
    architectures: z.array(z.string()).nullish(),
    torch_dtype: z.string().nullish(),
    dtype: z.string().nullish(),
    tie_word_embeddings: z.boolean().nullish(),
    quantization_config: z.looseObject({ quant_method: z.string().optional() }).nullish(),
  })
  .refine((config) => config.model_type !== undefined || config.architectures?.length, {
    message: 'neither model_type nor architectures says which model this is',
  });

const lowbitSchema = z.object({
  formatVersion: z.int().min(1).max(FORMAT_VERSION),
  recipe: z.array(stepRecordSchema).optional(),
  versions: z.record(z.string(), z.string()).optional(),
  seed: z.number().optional(),
  task: z.object({ description: z.string(), hash: z.string(), protocol: z.record(z.string(), z.unknown()) }).optional(),
  linears: z.record(z.string(), linearRecordSchema),
  residualWidth: z.int().positive().optional(),
  keyValues: z.record(z.string(), keyValuesSchema).optional(),
});

export type LowbitSection = z.infer<typeof lowbitSchema>;

/** The lowest version whose readers understand the section. */
export function formatVersion({ residualWidth, keyValues }: Omit<LowbitSection, 'formatVersion'>): number {
  return residualWidth === undefined && keyValues === undefined ? 1 : FORMAT_VERSION;
}

export interface CheckpointConfig {
  /** The source model's config. */
  readonly source: Record<string, unknown>;
  /** Undefined for a checkpoint that lowbit did not write. */
  readonly lowbit: LowbitSection | undefined;
}

/** Reads and checks a config.json. @throws CONFIG_JSON, CHECKPOINT_VERSION, JSON_FILE, FILE_MISSING */
export async function readConfig(path: string): Promise<CheckpointConfig> {
  const { lowbit, ...source } = await readJsonObject(path);
  const { quantization_config: quantization } = checkConfig(source, path);
  if (lowbit === undefined) return { source, lowbit };

  const version = (lowbit as { formatVersion?: unknown } | null)?.formatVersion;
  if (typeof version === 'number' && version > FORMAT_VERSION) {
    throw new LowbitError(
      'CHECKPOINT_VERSION',
      `${path}: has checkpoint format ${version} and this lowbit reads up to ${FORMAT_VERSION}; install a newer one`,
    );
  }
  const section = lowbitSchema.safeParse(lowbit);
  if (!section.success)
    throw new LowbitError('CONFIG_JSON', `${path}: lowbit: ${issue(section.error)}; the section is damaged, write the checkpoint again`);
  if (quantization?.quant_method === QUANT_METHOD) delete source.quantization_config;
  return { source, lowbit: section.data };
}

/** Checks what every model's config has. @throws CONFIG_JSON */
export function checkConfig(source: Readonly<Record<string, unknown>>, path: string): z.infer<typeof configSchema> {
  const checked = configSchema.safeParse(source);
  if (checked.success) return checked.data;
  throw new LowbitError('CONFIG_JSON', `${path}: ${issue(checked.error)}; it is not a model's config.json, or damaged`);
}

function issue(error: z.ZodError): string {
  const [{ path, message }] = error.issues;
  return path.length > 0 ? `${path.map(String).join('.')}: ${message}` : message;
}

/** Stored float type that the source model was published in, when its config says so. */
export function sourceFloat(config: Readonly<Record<string, unknown>>): 'F16' | 'BF16' | undefined {
  const name = config.torch_dtype ?? config.dtype;
  return name === 'float16' ? 'F16' : name === 'bfloat16' ? 'BF16' : undefined;
}

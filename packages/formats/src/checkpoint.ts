// What a checkpoint offers to a model loader, whatever its files look like.
import type { FinetuneTask, KeyValueQuantization, LinearState, Shape, Tensor } from '@lowbit/core';
import type { StepRecord } from './step-record.js';

/** A stored tensor as the checkpoint describes it. */
export interface CheckpointEntry {
  readonly shape: Shape;
  /** Type in the file: 'F32', 'BF16', … */
  readonly dtype: string;
}

/** A small file that belongs to the checkpoint: tokenizer.json, generation_config.json, a licence. */
export interface SideFile {
  read(): Promise<Uint8Array>;
}

/** The parsed tokenizer files, in the layout that `@huggingface/tokenizers` takes. */
export interface TokenizerFiles {
  /** tokenizer.json. */
  readonly tokenizer: Record<string, unknown>;
  /** tokenizer_config.json; empty when the checkpoint has none. */
  readonly config: Record<string, unknown>;
}

/** How a quantized checkpoint came about. */
export interface Provenance {
  /** The steps that were applied, in order. */
  readonly recipe?: readonly StepRecord[] | undefined;
  /** Versions of the packages that took part, by name. */
  readonly versions?: Readonly<Record<string, string>> | undefined;
  readonly seed?: number | undefined;
  /** What it was tuned for. */
  readonly task?: TaskRecord | undefined;
}

/** A task without its examples: enough to build it again. */
export type TaskRecord = Pick<FinetuneTask, 'description' | 'hash' | 'protocol'>;

/** An open checkpoint. Tensors are lazy: their bytes are read when the tensor is evaluated, and not kept. */
export interface Checkpoint {
  /** Where it lies, for messages. */
  readonly path: string;
  /** config.json as the source model has it, without what lowbit adds to it. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Every stored tensor by its Hugging Face name ('model.layers.0.self_attn.q_proj.weight'). */
  readonly entries: ReadonlyMap<string, CheckpointEntry>;
  /** A stored tensor as a lazy leaf; 16-bit floats become float32. @throws TENSOR_MISSING, SAFETENSORS_DTYPE */
  tensor(name: string): Tensor;
  /** Bits of one stored element: 16 for BF16. @throws TENSOR_MISSING */
  storedBits(name: string): number;
  /**
   * Linears that are stored in another representation than a plain weight, by path ('model.layers.0.mlp.up_proj', 'lm_head');
   * empty for a plain checkpoint. `restoreLinear(state, linearKinds)` rebuilds one.
   */
  readonly linears: ReadonlyMap<string, LinearState>;
  /** Width of the residual stream where a transform has widened it beyond the config's hidden size. */
  readonly residualWidth?: number | undefined;
  /** How blocks round keys and values, by path ('model.layers.0'); those that do not are left out. */
  readonly keyValues?: ReadonlyMap<string, KeyValueQuantization> | undefined;
  /** The parsed tokenizer.json with its config, or what vocab.json and merges.txt of GPT-2's kind say; undefined when there is none. @throws JSON_FILE, TOKENIZER_FILES */
  tokenizer(): Promise<TokenizerFiles | undefined>;
  /** Every other small file by name, so that a save can copy it byte for byte. */
  readonly sideFiles: ReadonlyMap<string, SideFile>;
  readonly provenance: Provenance;
}

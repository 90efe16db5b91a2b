// @lowbit/tiny-llama: two small Llama checkpoints trained by this toolkit, in the layout of Hugging Face.
import { fileURLToPath } from 'node:url';

/**
 * Directory of the default checkpoint: a Llama of 2.4 M parameters in its blocks with a tokenizer of its own, trained on State of the
 * Union speeches. `openCheckpoint(tinyLlamaDirectory())` opens it.
 */
export function tinyLlamaDirectory(): string {
  return checkpointDirectory('tiny');
}

/** Directory of a checkpoint of the same shape whose residual stream has outlier channels, as large models have. */
export function tinyLlamaOutliersDirectory(): string {
  return checkpointDirectory('tiny-outliers');
}

/** The checkpoints lie beside the sources and beside what is built from them. */
function checkpointDirectory(name: string): string {
  return fileURLToPath(new URL(`../models/${name}`, import.meta.url));
}

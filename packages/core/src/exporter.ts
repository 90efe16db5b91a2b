// Writing a model for another runtime.
import type { Model } from './model.js';

export interface ExportContext {
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((done: number, total: number) => void) | undefined;
}

export interface Exporter {
  /** 'checkpoint', 'gguf', 'gptq', … */
  readonly name: string;
  /** Why the model cannot be written without loss, one entry a problem; empty when it can. Reads no weights. */
  check(model: Model): readonly string[];
  /** Writes the files into a folder. @throws EXPORT_UNSUPPORTED with what `check` said. */
  write(model: Model, directory: string, context?: ExportContext): Promise<void>;
}

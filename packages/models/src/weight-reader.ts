// Takes a model's parts out of a checkpoint: every tensor is checked against the configuration by name and shape, none is read.
import {
  DenseLinear,
  Embedding,
  formatShape,
  type KeyValueQuantization,
  type Linear,
  type LinearKinds,
  LowbitError,
  Norm,
  restoreLinear,
  type Shape,
  sameShape,
  type Tensor,
} from '@lowbit/core';
import { type Checkpoint, transposed } from '@lowbit/formats';

export interface LinearSpecification {
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Whether the configuration promises a bias. One that is there without being promised is used as well. */
  readonly hasBias?: boolean;
  /** Whether a dense weight is stored [in, out]. */
  readonly isTransposed?: boolean;
}

export interface NormSpecification {
  /** Divisor of the mean square. */
  readonly size: number;
  /** Elements of the weight: the width of the residual stream. Default: `size`. */
  readonly width?: number;
  readonly epsilon: number;
}

/** The table of learned positions. */
interface PositionSpecification {
  readonly name: string;
  /** How many positions there are; the table has `offset` rows more. */
  readonly count: number;
  readonly offset: number;
}

export interface EmbeddingSpecification {
  readonly name: string;
  readonly vocabularySize: number;
  readonly width: number;
  /** Default: none. */
  readonly positions?: PositionSpecification;
}

export class WeightReader {
  readonly #checkpoint: Checkpoint;
  readonly #kinds: LinearKinds;

  constructor(checkpoint: Checkpoint, kinds: LinearKinds) {
    this.#checkpoint = checkpoint;
    this.#kinds = kinds;
  }

  has(name: string): boolean {
    return this.#checkpoint.entries.has(name);
  }

  /** A float32 leaf. @throws TENSOR_MISSING, TENSOR_SHAPE, TENSOR_DTYPE, CHECKPOINT_QUANTIZED. */
  tensor(name: string, shape: Shape): Tensor {
    const entry = this.#checkpoint.entries.get(name);
    if (!entry) throw this.#missing(name);
    if (!sameShape(entry.shape, shape)) {
      throw new LowbitError(
        'TENSOR_SHAPE',
        `${name}: has shape ${formatShape(entry.shape)} where config.json says ${formatShape(shape)}; the two do not belong together, fetch both from one place`,
      );
    }
    const leaf = this.#checkpoint.tensor(name);
    if (leaf.dtype !== 'float32') {
      throw new LowbitError(
        'TENSOR_DTYPE',
        `${name}: holds ${entry.dtype} where floating-point weights are expected; load the full-precision checkpoint`,
      );
    }
    return leaf;
  }

  /** The Linear at `path`: as it was quantized, or dense. @throws as `tensor`, and LINEAR_KIND. */
  linear(path: string, { inFeatures, outFeatures, hasBias = false, isTransposed = false }: LinearSpecification): Linear {
    const state = this.#checkpoint.linears.get(path);
    if (!state) {
      const name = `${path}.weight`;
      const weight = isTransposed ? transposed(this.tensor(name, [inFeatures, outFeatures])) : this.tensor(name, [outFeatures, inFeatures]);
      const bias = hasBias || this.has(`${path}.bias`) ? this.tensor(`${path}.bias`, [outFeatures]) : undefined;
      return new DenseLinear(weight, bias, this.#checkpoint.storedBits(name));
    }
    const linear = restoreLinear(state, this.#kinds);
    if (linear.inFeatures !== inFeatures || linear.outFeatures !== outFeatures) {
      const found = formatShape([linear.outFeatures, linear.inFeatures]);
      throw new LowbitError(
        'TENSOR_SHAPE',
        `${path}: the stored ${linear.kind} layer is ${found} where config.json says ${formatShape([outFeatures, inFeatures])}; the two do not belong together, fetch both from one place`,
      );
    }
    return linear;
  }

  rmsNorm(path: string, { size, width = size, epsilon }: NormSpecification): Norm {
    return new Norm('rms', size, epsilon, this.tensor(`${path}.weight`, [width]));
  }

  /** With a bias. */
  layerNorm(path: string, { size, epsilon }: Omit<NormSpecification, 'width'>): Norm {
    return new Norm('layer', size, epsilon, this.tensor(`${path}.weight`, [size]), this.tensor(`${path}.bias`, [size]));
  }

  /** Width of the residual stream of a model of this hidden size. @throws MODEL_CONFIG for one that no transform leads to. */
  width(hiddenSize: number): number {
    const { residualWidth = hiddenSize } = this.#checkpoint;
    if (residualWidth < hiddenSize) {
      throw new LowbitError(
        'MODEL_CONFIG',
        `config.json: lowbit.residualWidth ${residualWidth} is less than hidden_size ${hiddenSize}; the section is damaged, write the checkpoint again`,
      );
    }
    return residualWidth;
  }

  /** How the block at `path` rounds keys and values. */
  keyValues(path: string): KeyValueQuantization | undefined {
    return this.#checkpoint.keyValues?.get(path);
  }

  embedding({ name, vocabularySize, width, positions }: EmbeddingSpecification): Embedding {
    const weight = this.tensor(name, [vocabularySize, width]);
    if (!positions) return new Embedding(weight);
    const { offset, count } = positions;
    return new Embedding(weight, { weight: this.tensor(positions.name, [offset + count, width]), offset });
  }

  /** The output head, [vocabulary, width] as the embedding: the embedding's own weight, of the name `tiedTo`, where the two are tied. */
  head(path: string, embedding: Embedding, tiedTo: string | undefined): Linear {
    const [outFeatures, inFeatures] = embedding.weight.shape;
    if (tiedTo === undefined || this.#checkpoint.linears.has(path)) return this.linear(path, { inFeatures, outFeatures });
    return new DenseLinear(embedding.weight, undefined, this.#checkpoint.storedBits(tiedTo));
  }

  #missing(name: string): LowbitError {
    const { config, entries } = this.#checkpoint;
    const foreign = config.quantization_config as { quant_method?: unknown } | undefined;
    if (foreign && typeof foreign === 'object') {
      const method = String(foreign.quant_method ?? 'an unknown method');
      return new LowbitError(
        'CHECKPOINT_QUANTIZED',
        `${name}: is not in the checkpoint, which ${method} has quantized already; load the full-precision checkpoint`,
      );
    }
    const suffix = name.split('.').slice(-3).join('.');
    const alike = [...entries.keys()].filter((known) => known.endsWith(suffix) || known.endsWith(name.split('.').slice(-2).join('.')));
    const near = alike.length > 0 ? `; it has ${alike.slice(0, 3).join(', ')}` : '';
    return new LowbitError(
      'TENSOR_MISSING',
      `${name}: is not among the ${entries.size} tensors of the checkpoint${near}; the checkpoint is incomplete or of another architecture, fetch it again with its own config.json`,
    );
  }
}

// A whole model in the basis of a rotated residual stream.
import {
  type Backend,
  type Block,
  DenseLinear,
  Embedding,
  type KeyValueQuantization,
  type Linear,
  type Model,
  mul,
  read,
  requireDense,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { bitsOf, stored } from './half.js';
import { type FoldSettings, readingLinear, writingLinear } from './linears.js';
import { byRows } from './rows.js';

export interface ModelSettings extends FoldSettings {
  /** How keys and values are rounded; undefined: not at all. */
  readonly keyValues: KeyValueQuantization | undefined;
}

/**
 * The model that computes the same in another basis, but for what the settings round. Embedding, head and outlier columns are computed
 * here and rounded as they are stored; every other weight is an expression over the given one.
 */
export async function rotatedModel(
  backend: Backend,
  model: Model,
  settings: ModelSettings,
  onBlock: (done: number) => void,
): Promise<Model> {
  const ends = await rotatedEnds(backend, model, settings);
  const blocks: Block[] = [];
  for (const [index, block] of model.blocks.entries()) {
    blocks.push(await rotatedBlock(backend, block, settings));
    onBlock(index + 1);
  }
  // Only the head takes the last norm's weight, so the two can no longer be one tensor.
  return model.with({ ...ends, blocks, config: { ...model.config, tiedEmbeddings: false } });
}

async function rotatedEnds(
  backend: Backend,
  model: Model,
  { isometry, dtype }: ModelSettings,
): Promise<Pick<Model, 'embedding' | 'norm' | 'head'>> {
  const { residualWidth: width } = isometry;
  const transformed = (matrix: Tensor, where: string, gamma?: Tensor): Promise<Tensor> => {
    const graph = (rows: Tensor): Tensor => isometry.rows(gamma ? mul(rows, gamma) : rows);
    return byRows(backend, matrix, width, graph, (values) => stored(values, dtype, where));
  };
  const { layout } = model;
  const head = requireDense(model.head, layout.head);
  return {
    embedding: new Embedding(await transformed(model.embedding.weight, layout.embedding.weight)),
    norm: model.norm.with({ weight: undefined }),
    head: new DenseLinear(await transformed(head.weight, layout.head, model.norm.weight), head.bias, bitsOf[dtype]),
  };
}

async function rotatedBlock(backend: Backend, block: Block, settings: ModelSettings): Promise<Block> {
  const linears: Record<string, Linear> = {};
  const reading = block.groups.flatMap(({ reads, linears: names }) =>
    'norm' in reads ? names.map((name) => readingLinear(block, name, block.norms[reads.norm], settings)) : [],
  );
  const columns = await outlierColumns(backend, block.path, reading, settings);
  for (const [i, linear] of reading.entries()) linears[linear.name] = linear.with(columns[i]);
  for (const { reads, linears: names } of block.groups) {
    if (!('norm' in reads)) for (const name of names) linears[name] = writingLinear(block, name, settings);
  }
  // Other norms, of queries and keys for example, keep their weights.
  const folded = new Set(block.groups.flatMap(({ reads }) => ('norm' in reads ? [reads.norm] : [])));
  const norms = Object.fromEntries([...folded].map((name) => [name, block.norms[name].with({ weight: undefined })]));
  return block.with({ linears, norms, ...(settings.keyValues && { keyValues: settings.keyValues }) });
}

/** The outlier columns of a block's Linears in one evaluation, rounded as they are stored. */
async function outlierColumns(
  backend: Backend,
  path: string,
  linears: readonly { readonly name: string; readonly outlier: Tensor | undefined }[],
  { dtype }: ModelSettings,
): Promise<(Tensor | undefined)[]> {
  const expressions = linears.flatMap(({ outlier }) => (outlier ? [outlier] : []));
  if (expressions.length === 0) return linears.map(() => undefined);
  const leaves = await backend.evaluate(expressions);
  return Promise.all(
    leaves.map(async (leaf, i) => tensor(stored((await read(leaf)) as Float32Array, dtype, `${path}.${linears[i].name}`), leaf.shape)),
  );
}

// The activations between blocks: the only state that a block hands to the next.
import { type Block, type Model, materialize, type Tensor } from '@lowbit/core';
import { resolveTree } from './resolve.js';
import type { Run } from './run.js';

/** Embedded calibration tokens, one tensor [batch, tokens, width] a batch: what the first block reads. */
export async function embed(run: Run, model: Model): Promise<Tensor[]> {
  const embedding = await materialize(model.embedding);
  const stream: Tensor[] = [];
  for (let i = 0; i < run.calibration.length; i++) {
    const [x] = await run.backend.evaluate([embedding.forward(await run.calibration.at(i))]);
    stream.push(x);
  }
  return stream;
}

/** The block's outputs on every batch, written to `to`: the same array as `from` keeps one stream in memory instead of two. */
export async function forwardAll(run: Run, block: Block, from: readonly Tensor[], to: Tensor[], onBatch?: () => void): Promise<Tensor[]> {
  for (const [i, x] of from.entries()) {
    const [y] = await run.backend.evaluate([block.forward(x)]);
    to[i] = y;
    onBatch?.();
  }
  return to;
}

/** The stream of a model in which nothing is quantized, computed only as far as somebody asks. */
export class DenseStream {
  readonly #run: Run;
  readonly #model: Model;
  #next = 0;
  #stream: Tensor[] | undefined;

  constructor(run: Run, model: Model) {
    this.#run = run;
    this.#model = model;
  }

  /**
   * What the model gives after block `index`. Ask for blocks in order; an answer holds until the next question.
   * @param resolved that block in memory, so that it is not evaluated again.
   */
  async after(index: number, resolved: Block): Promise<readonly Tensor[]> {
    this.#stream ??= await embed(this.#run, this.#model);
    for (; this.#next <= index; this.#next++) {
      const block = this.#next === index ? resolved : await resolveTree(this.#run.backend, this.#model.blocks[this.#next]);
      await forwardAll(this.#run, block, this.#stream, this.#stream);
    }
    return this.#stream;
  }
}

// The activations of a model in which nothing is quantized, beside those of the model as it becomes.
import type { Block, Model } from '@lowbit/core';
import type { Stream, Streams } from './activations.js';
import { resolveTree } from './resolve.js';
import type { Run } from './run.js';

/** Where a dense stream stands: what left block `next − 1`. */
export interface DenseState {
  readonly next: number;
  readonly key: string;
}

/** The stream of a model in which nothing is quantized, computed only as far as somebody asks. */
export class DenseStream {
  readonly #run: Run;
  readonly #streams: Streams;
  readonly #model: Model;
  #next = 0;
  #stream: Stream | undefined;

  constructor(run: Run, streams: Streams, model: Model) {
    this.#run = run;
    this.#streams = streams;
    this.#model = model;
  }

  /**
   * What the model gives after block `index`. Ask for blocks in order; an answer holds until the next question.
   * @param resolved that block in memory, so that it is not evaluated again.
   */
  async after(index: number, resolved: Block): Promise<Stream> {
    let stream = this.#stream ?? (await this.#streams.embed(this.#model, 'dense-0'));
    for (; this.#next <= index; this.#next++) {
      const block = this.#next === index ? resolved : await resolveTree(this.#run.backend, this.#model.blocks[this.#next]);
      const before = stream;
      stream = await this.#streams.forward(block, before, { name: `dense-${this.#next + 1}`, isKept: this.#next === index }, true);
      this.#streams.discard(before);
    }
    this.#stream = stream;
    return stream;
  }

  /** For the entry that a resumed run goes on from; undefined as long as nobody asked, or where there is no store. */
  get state(): DenseState | undefined {
    return this.#stream?.key === undefined ? undefined : { next: this.#next, key: this.#stream.key };
  }

  /** Goes on from there; from the beginning when it is not there any more. */
  async restore({ next, key }: DenseState): Promise<void> {
    this.#stream = await this.#streams.restore(key);
    if (this.#stream) this.#next = next;
  }

  discard(): void {
    if (this.#stream) this.#streams.discard(this.#stream);
    this.#stream = undefined;
  }
}

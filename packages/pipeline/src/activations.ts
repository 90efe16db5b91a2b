// The activations between blocks: the only state that a block hands to the next. In memory within a budget, in the store beyond it.
import {
  type Batches,
  type Block,
  LowbitError,
  lazyTensor,
  type Model,
  materialize,
  read,
  readFloats,
  type Shape,
  sizeOf,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { firstNotFinite } from './finite.js';
import { entryKey, type Run } from './run.js';

/** Bytes of a float32. */
const ELEMENT = 4;

/** One tensor [batch, tokens, width] for each calibration batch. */
export class Stream implements Batches {
  /** Where it lies in the store; undefined for a stream that is in memory alone. */
  readonly key: string | undefined;
  readonly #tensors: (Tensor | undefined)[];

  constructor(tensors: readonly Tensor[], key: string | undefined) {
    this.#tensors = [...tensors];
    this.key = key;
  }

  get length(): number {
    return this.#tensors.length;
  }

  get shapes(): readonly Shape[] {
    return this.#tensors.map((_, i) => this.#get(i).shape);
  }

  /** A batch in memory: read anew each time when it lies in the store. */
  async at(index: number): Promise<Tensor> {
    const t = this.#get(index);
    return isHeld(t) ? t : tensor(await read(t), t.shape, t.dtype);
  }

  /** Forgets a batch, which nobody will ask for again. @returns bytes of memory that it held. */
  drop(index: number): number {
    const t = this.#tensors[index];
    this.#tensors[index] = undefined;
    return t && isHeld(t) ? t.size * ELEMENT : 0;
  }

  #get(index: number): Tensor {
    const t = this.#tensors[index];
    if (!t) throw new LowbitError('INTERNAL', `batch ${index} of ${this.key ?? 'a stream'} was dropped or never there`);
    return t;
  }
}

function isHeld({ source }: Tensor): boolean {
  return source.kind === 'leaf' && source.data !== undefined;
}

/** Nothing flows: what a block that reads no activations is given. */
export const noStream = new Stream([], undefined);

/** How a stream is made. */
export interface StreamPlan {
  /** Unique within the step. */
  readonly name: string;
  readonly shapes: readonly Shape[];
  /** A resumed run goes on from it: it lies in the store, if there is one, whatever fits in memory. */
  readonly isKept: boolean;
  compute(index: number): Promise<Tensor>;
}

/** Makes the streams of one step and knows how much memory they hold together. */
export class Streams {
  readonly #run: Run;
  readonly #step: number;
  #free: number;

  constructor(run: Run, step: number) {
    this.#run = run;
    this.#step = step;
    this.#free = run.memory;
  }

  /** Computes a stream batch by batch. What the budget has no room for is written to the store and forgotten. */
  async make({ name, shapes, isKept, compute }: StreamPlan): Promise<Stream> {
    const { storage } = this.#run;
    const bytes = shapes.reduce((total, shape) => total + sizeOf(shape) * ELEMENT, 0);
    const held: (Tensor | undefined)[] = [];
    const make = async (index: number): Promise<Tensor> => {
      const y = await compute(index);
      const size = y.size * ELEMENT;
      if (size <= this.#free) {
        held[index] = y;
        this.#free -= size;
      }
      return y;
    };
    if (!storage || (!isKept && bytes <= this.#free)) {
      const tensors: Tensor[] = [];
      for (const i of shapes.keys()) tensors.push(await make(i));
      return new Stream(tensors, undefined);
    }
    const key = entryKey(this.#step, 'activations', name);
    // One file, which is written while it is computed: the store reads its tensors one after another.
    const pending = shapes.map((shape, i): [string, Tensor] => [
      batchName(i),
      lazyTensor(shape, 'float32', async () => readFloats(await make(i))),
    ]);
    const stored = await storage.keep(key, { metadata: {}, tensors: Object.fromEntries(pending) });
    return new Stream(
      shapes.map((_, i) => held[i] ?? stored.tensors[batchName(i)]),
      key,
    );
  }

  /** The stream that an earlier run left; undefined when it is not there any more. */
  async restore(key: string): Promise<Stream | undefined> {
    const entry = await this.#run.storage?.get(key);
    if (!entry) return undefined;
    const names = Object.keys(entry.tensors).sort();
    return new Stream(
      names.map((name) => entry.tensors[name]),
      key,
    );
  }

  /** Takes the outputs of a block, which must be finite (NOT_FINITE). `isLast`: nobody reads `from` again, so that there is one stream in memory and not two. */
  forward(block: Block, from: Stream, plan: Pick<StreamPlan, 'name' | 'isKept'>, isLast: boolean, onBatch?: () => void): Promise<Stream> {
    return this.make({
      ...plan,
      shapes: from.shapes,
      compute: async (i) => {
        const [y] = await this.#run.backend.evaluate([block.forward(await from.at(i))]);
        if (firstNotFinite(await readFloats(y)) >= 0) {
          const place = `its output holds NaN or Infinity in batch ${i + 1} of ${from.length}`;
          throw new LowbitError('NOT_FINITE', `${block.path}: ${place}; check its weights and what the step has made of them`);
        }
        if (isLast) this.#free += from.drop(i);
        onBatch?.();
        return y;
      },
    });
  }

  /** Embedded calibration tokens: what the first block reads. */
  async embed(model: Model, name: string): Promise<Stream> {
    const { calibration, backend } = this.#run;
    const embedding = await materialize(model.embedding);
    const { shape } = await calibration.at(0);
    return this.make({
      name,
      shapes: Array.from({ length: calibration.length }, () => [...shape, model.width]),
      isKept: false,
      compute: async (i) => {
        const [x] = await backend.evaluate([embedding.forward(await calibration.at(i))]);
        return x;
      },
    });
  }

  /** A stream that nobody reads again; its entry goes when the next block has been committed. */
  discard(stream: Stream): void {
    for (let i = 0; i < stream.length; i++) this.#free += stream.drop(i);
    if (stream.key !== undefined) this.#run.storage?.outdate(stream.key);
  }
}

/** Sorts as numbers do. */
function batchName(index: number): string {
  return String(index).padStart(6, '0');
}

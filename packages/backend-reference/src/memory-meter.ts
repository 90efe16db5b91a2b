// Counts the bytes of tensors that live at one time, as an instrumented allocator does.
import { bytesPerElement, type Tensor } from '@lowbit/core';

/**
 * Live bytes of everything that a backend computes on, each element as wide as its type. Memory is counted once, however many tensors view
 * it. A leaf lives from the evaluation that first reads or returns it until it is released or nobody can reach it; a value within an
 * evaluation until its last use.
 */
export class MemoryMeter {
  readonly #collectGarbage: () => Promise<void>;
  readonly #held = new Set<WeakRef<ArrayBufferLike>>();
  readonly #known = new WeakMap<ArrayBufferLike, WeakRef<ArrayBufferLike>>();
  #peak = 0;

  /**
   * @param collectGarbage is awaited before anything is counted. It must let the event loop turn first, because what a weak reference was made
   * or read of stays until then. Without it, leaves that nobody can reach count until they happen to be collected.
   */
  constructor(collectGarbage: () => Promise<void> = async () => undefined) {
    this.#collectGarbage = collectGarbage;
  }

  /** The most bytes that were live at one time. */
  get peak(): number {
    return this.#peak;
  }

  /** Forgets the peak, as a run begins that is to be measured by itself. */
  reset(): void {
    this.#peak = 0;
  }

  /** Bytes of the leaves that live now. */
  async held(): Promise<number> {
    await this.#collectGarbage();
    let total = 0;
    for (const reference of this.#held) {
      const buffer = reference.deref();
      if (buffer) total += buffer.byteLength;
      else this.#held.delete(reference);
    }
    return total;
  }

  /** A leaf lives. Those that are read anew each time, from a file, do not stay. */
  hold(leaf: Tensor): void {
    const buffer = bufferOf(leaf);
    if (!buffer || this.#known.has(buffer)) return;
    const reference = new WeakRef(buffer);
    this.#known.set(buffer, reference);
    this.#held.add(reference);
  }

  release(leaf: Tensor): void {
    const buffer = bufferOf(leaf);
    const reference = buffer && this.#known.get(buffer);
    if (!reference) return;
    this.#held.delete(reference);
    this.#known.delete(buffer);
  }

  /** Begins an evaluation that reads some leaves. */
  async begin(leaves: readonly Tensor[]): Promise<WorkingMemory> {
    for (const leaf of leaves) this.hold(leaf);
    const held = await this.held();
    return new WorkingMemory((bytes) => {
      this.#peak = Math.max(this.#peak, held + bytes);
    });
  }
}

/** Values of one evaluation. */
class WorkingMemory {
  readonly #report: (bytes: number) => void;
  /** What lies where: nodes that view a piece of memory, and its bytes. */
  readonly #pieces = new Map<object, { users: number; readonly bytes: number }>();
  #live = 0;

  constructor(report: (bytes: number) => void) {
    this.#report = report;
    report(0);
  }

  /** @param memory what the node's elements lie in. */
  add(node: Tensor, memory: object): void {
    const known = this.#pieces.get(memory);
    if (known) {
      known.users++;
      return;
    }
    const bytes = bufferOf(node) ? 0 : node.size * bytesPerElement[node.dtype];
    this.#pieces.set(memory, { users: 1, bytes });
    this.#live += bytes;
    this.#report(this.#live);
  }

  remove(memory: object): void {
    const piece = this.#pieces.get(memory);
    if (!piece || --piece.users > 0) return;
    this.#pieces.delete(memory);
    this.#live -= piece.bytes;
  }
}

/** The memory that a leaf lies in, where it has been read. */
function bufferOf({ source }: Tensor): ArrayBufferLike | undefined {
  return source.kind === 'leaf' ? source.data?.buffer : undefined;
}

// Counts the bytes of tensors that live at one time, whatever the engine does with them.
import { type Backend, bytesPerElement, composites, expand, type Tensor } from '@lowbit/core';

export interface CountingBackend extends Backend {
  /** The most bytes that were live at one time. */
  readonly peak: number;
}

/**
 * A backend that counts: what is kept, and results until they are released, for as long as the run goes; leaves while they are read; values
 * within an evaluation from when they are made, in order, to their last use. Memory that several tensors view counts once.
 * @param kept what lives all the time: weights, and what a run holds beside tensors.
 */
export function countingBackend(backend: Backend, kept: () => Iterable<ArrayBufferLike>): CountingBackend {
  const results = new Set<ArrayBufferLike>();
  const released = new Set<ArrayBufferLike>();
  let peak = 0;
  return {
    name: backend.name,
    fingerprint: backend.fingerprint,
    get statistics() {
      return backend.statistics;
    },
    get peak() {
      return peak;
    },
    async evaluate(tensors, options) {
      const { leaves, bytes } = workOf(tensors);
      const live = new Set([...results, ...leaves.flatMap(bufferOf), ...[...kept()].filter((buffer) => !released.has(buffer))]);
      peak = Math.max(peak, [...live].reduce((sum, buffer) => sum + buffer.byteLength, 0) + bytes);
      const made = await backend.evaluate(tensors, options);
      for (const result of made) {
        for (const buffer of bufferOf(result)) {
          results.add(buffer);
          released.delete(buffer);
        }
      }
      for (const buffer of (options?.release ?? []).flatMap(bufferOf)) {
        results.delete(buffer);
        released.add(buffer);
      }
      return made;
    },
    dispose: () => backend.dispose(),
  };
}

function bufferOf({ source }: Tensor): ArrayBufferLike[] {
  return source.kind === 'leaf' && source.data ? [source.data.buffer] : [];
}

/** What an evaluation reads, and the most bytes of values that it makes and that live at one time, its results among them. */
function workOf(roots: readonly Tensor[]): { readonly leaves: readonly Tensor[]; readonly bytes: number } {
  const leaves: Tensor[] = [];
  const steps: { readonly node: Tensor; readonly inputs: readonly Tensor[] }[] = [];
  const placed = new Map<Tensor, Tensor>();
  /** The node whose memory a node's elements lie in. */
  const place = (node: Tensor): Tensor => {
    const known = placed.get(node);
    if (known) return known;
    const made = placeNew(node);
    placed.set(node, made);
    return made;
  };
  const placeNew = (node: Tensor): Tensor => {
    const { source } = node;
    if (source.kind === 'leaf') {
      leaves.push(node);
      return node;
    }
    if (source.op in composites) return place(expand(node));
    const inputs = source.inputs.map(place);
    if (source.op === 'reshape') return inputs[0];
    steps.push({ node, inputs });
    return node;
  };
  const ends = new Set(roots.map(place));
  const lastUse = new Map(steps.flatMap(({ node, inputs }) => inputs.map((input) => [input, node])));
  const sizes = new Map(steps.map(({ node }) => [node, node.size * bytesPerElement[node.dtype]]));
  let [live, bytes] = [0, 0];
  for (const { node, inputs } of steps) {
    live += sizes.get(node) ?? 0;
    bytes = Math.max(bytes, live);
    for (const input of new Set(inputs)) if (lastUse.get(input) === node && !ends.has(input)) live -= sizes.get(input) ?? 0;
  }
  return { leaves, bytes };
}

// Leaves on the device: copied there at their first use and kept, so that a weight that does not change travels once.
import { bytesPerElement, type DType, LowbitError, type Tensor, type TypedArray } from '@lowbit/core';
import * as ort from 'onnxruntime-node';
import { OnnxGraph } from './onnx-graph.js';

/** Element types that ONNX Runtime's tensors on a GPU may have. */
const TYPES: readonly DType[] = ['float32', 'int32', 'uint8', 'bool'];

/** Smaller leaves travel with the run that reads them: a copy of their own would cost more. */
const LEAST_BYTES = 2 ** 14;

/** A leaf's copy on the device. It knows nothing of the leaf, which it must not keep from being collected. */
interface Resident {
  readonly copy: Promise<ort.Tensor>;
  readonly bytes: number;
  /** Runs under way that read it. */
  users: number;
  isDropped: boolean;
}

/** A leaf as a run is fed with it. */
export interface Feed {
  readonly value: TypedArray | ort.Tensor;
  /** After the run. */
  giveBack(): void;
}

/**
 * Copies of leaves in a GPU's memory. The runtime offers no upload by itself: a session whose graph passes its input on, with its output
 * bound to the device, does it. Only WebGPU has such outputs; on CUDA every run copies its leaves.
 */
export class ResidentLeaves {
  readonly #options: ort.InferenceSession.SessionOptions;
  readonly #limit: number;
  readonly #uploaders = new Map<DType, Promise<ort.InferenceSession>>();
  readonly #byLeaf = new WeakMap<Tensor, Resident>();
  /** In order of last use. */
  readonly #kept = new Set<Resident>();
  readonly #collected = new FinalizationRegistry<Resident>((resident) => this.#drop(resident));
  /** Leaves copied so far. */
  uploads = 0;
  /** Bytes on the device now. */
  bytes = 0;

  /** Past `limit` bytes, the copies that were not used for longest go. */
  constructor(options: ort.InferenceSession.SessionOptions, limit: number) {
    this.#options = options;
    this.#limit = limit;
  }

  /**
   * What a run reads for a leaf: its copy on the device, or `data` itself for a small leaf or one that is fetched for each evaluation.
   * @throws ONNX_UPLOAD when the device does not take it.
   */
  async feed(leaf: Tensor, data: TypedArray): Promise<Feed> {
    const bytes = leaf.size * bytesPerElement[leaf.dtype];
    const isKept = leaf.source.kind === 'leaf' && leaf.source.data !== undefined && TYPES.includes(leaf.dtype);
    if (!isKept || bytes < LEAST_BYTES || bytes > this.#limit) return { value: data, giveBack: () => {} };
    const known = this.#byLeaf.get(leaf);
    const resident = known && !known.isDropped ? known : this.#upload(leaf, data, bytes);
    resident.users++;
    this.#kept.delete(resident);
    this.#kept.add(resident);
    this.#trim();
    const giveBack = (): void => {
      resident.users--;
      this.#freeIfUnused(resident);
      this.#trim();
    };
    try {
      return { value: await resident.copy, giveBack };
    } catch (error) {
      this.#drop(resident);
      giveBack();
      throw new LowbitError('ONNX_UPLOAD', `onnxruntime: ${bytes} bytes could not be copied to the device: ${String(error)}`, {
        cause: error,
      });
    }
  }

  /** The leaf's memory is about to hold other elements. */
  release(leaf: Tensor): void {
    const resident = this.#byLeaf.get(leaf);
    if (resident) this.#drop(resident);
  }

  async clear(): Promise<void> {
    for (const resident of [...this.#kept]) this.#drop(resident);
    for (const session of this.#uploaders.values()) await (await session).release();
    this.#uploaders.clear();
  }

  #upload(leaf: Tensor, data: TypedArray, bytes: number): Resident {
    this.uploads++;
    this.bytes += bytes;
    const resident = { copy: this.#copy(leaf, data), bytes, users: 0, isDropped: false };
    this.#byLeaf.set(leaf, resident);
    this.#collected.register(leaf, resident, resident);
    return resident;
  }

  async #copy({ dtype, shape, size }: Tensor, data: TypedArray): Promise<ort.Tensor> {
    const session = await this.#uploaderOf(dtype);
    const { [session.outputNames[0]]: flat } = await session.run({ x: new ort.Tensor(dtype, data as never, [size]) });
    return ort.Tensor.fromGpuBuffer(flat.gpuBuffer, {
      dataType: dtype as ort.Tensor.GpuBufferDataTypes,
      dims: [...shape],
      dispose: () => flat.dispose(),
    });
  }

  #uploaderOf(dtype: DType): Promise<ort.InferenceSession> {
    const known = this.#uploaders.get(dtype);
    if (known) return known;
    const graph = new OnnxGraph();
    graph.input('x', ['n'], dtype);
    graph.output(graph.node('Identity', ['x']), ['n'], dtype);
    const made = ort.InferenceSession.create(graph.encode(), { ...this.#options, preferredOutputLocation: 'gpu-buffer' });
    this.#uploaders.set(dtype, made);
    made.catch(() => this.#uploaders.delete(dtype));
    return made;
  }

  #trim(): void {
    for (const resident of this.#kept) {
      if (this.bytes <= this.#limit) return;
      if (resident.users === 0) this.#drop(resident);
    }
  }

  #drop(resident: Resident): void {
    if (resident.isDropped) return;
    this.#kept.delete(resident);
    this.#collected.unregister(resident);
    resident.isDropped = true;
    this.#freeIfUnused(resident);
  }

  #freeIfUnused(resident: Resident): void {
    if (!resident.isDropped || resident.users > 0) return;
    this.bytes -= resident.bytes;
    resident.copy.then(
      (copy) => copy.dispose(),
      // What was not copied holds nothing; the evaluation that wanted it has thrown the reason.
      () => {},
    );
  }
}

// What stays on the device between evaluations: leaves that were copied there, and results that nobody has asked for yet.
import { arrayTypes, type DType, LowbitError, Tensor, type TypedArray } from '@lowbit/core';
import { bytesOf, type Device, deviceTypes, type Value } from './device.js';

/** A leaf's copy. It knows nothing of the leaf, which it must not keep from being collected. */
interface Resident {
  /** Absent while it is not on the device. */
  value: Value | undefined;
  /** Elements of a result that had to leave the device. */
  host: TypedArray | undefined;
  readonly isResult: boolean;
}

/** Leaves in the memory of a device. Past a limit, those that were not used for longest leave it, results for host memory. */
export class Residents {
  readonly #device: Device;
  readonly #limit: number;
  readonly #byLeaf = new WeakMap<Tensor, Resident>();
  /** Those on the device, in the order of their last use. */
  readonly #kept = new Set<Resident>();
  readonly #collected = new FinalizationRegistry<Resident>((resident) => this.#free(resident));
  /** Leaves copied to the device so far. */
  uploads = 0;
  /** Bytes on the device now. */
  bytes = 0;

  constructor(device: Device, limit: number) {
    this.#device = device;
    this.#limit = limit;
  }

  /** Whether this has the leaf's elements, here or in host memory. */
  has(leaf: Tensor): boolean {
    return this.#byLeaf.has(leaf);
  }

  /** A leaf in host memory, or a result, on the device: copied there unless it is. The value stays this one's. */
  acquire(leaf: Tensor): Value {
    const resident = this.#byLeaf.get(leaf) ?? this.#remember(leaf, { value: undefined, host: undefined, isResult: false });
    if (!resident.value) {
      const elements = resident.host ?? (leaf.source.kind === 'leaf' ? leaf.source.data : undefined);
      if (!elements) throw releasedError();
      this.uploads++;
      this.#place(resident, this.#device.upload(elements, leaf.shape, deviceTypes[leaf.dtype]));
    }
    this.#kept.delete(resident);
    this.#kept.add(resident);
    return resident.value as Value;
  }

  /** A leaf over what an evaluation computed, which becomes this one's. Its elements travel when they are read. */
  adopt(value: Value, { shape, dtype }: Tensor): Tensor {
    const resident: Resident = { value: undefined, host: undefined, isResult: true };
    this.#place(resident, value);
    const leaf = new Tensor(shape, dtype, { kind: 'leaf', load: () => this.#read(resident, dtype) });
    this.#remember(leaf, resident);
    return leaf;
  }

  /** Nobody will read the leaf again. */
  release(leaf: Tensor): void {
    const resident = this.#byLeaf.get(leaf);
    if (!resident) return;
    this.#collected.unregister(resident);
    this.#free(resident);
    resident.host = undefined;
    if (!resident.isResult) this.#byLeaf.delete(leaf);
  }

  /** Makes room after an evaluation. */
  async trim(): Promise<void> {
    for (const resident of this.#kept) {
      if (this.bytes <= this.#limit) return;
      await this.#evict(resident);
    }
  }

  /** Takes everything off the device; results can still be read. */
  async clear(): Promise<void> {
    for (const resident of this.#kept) await this.#evict(resident);
  }

  async #evict(resident: Resident): Promise<void> {
    const { value } = resident;
    if (resident.isResult && value) resident.host ??= await this.#device.download(value);
    this.#free(resident);
  }

  async #read(resident: Resident, dtype: DType): Promise<TypedArray> {
    if (!resident.host && !resident.value) throw releasedError();
    const data = resident.host ?? (await this.#device.download(resident.value as Value));
    return data instanceof arrayTypes[dtype] ? data : new arrayTypes[dtype](data);
  }

  #remember(leaf: Tensor, resident: Resident): Resident {
    this.#byLeaf.set(leaf, resident);
    this.#collected.register(leaf, resident, resident);
    return resident;
  }

  #place(resident: Resident, value: Value): void {
    resident.value = value;
    this.bytes += bytesOf(value);
    this.#kept.add(resident);
  }

  #free(resident: Resident): void {
    const { value } = resident;
    if (!value) return;
    resident.value = undefined;
    this.#kept.delete(resident);
    this.bytes -= bytesOf(value);
    this.#device.free(value);
  }
}

function releasedError(): LowbitError {
  return new LowbitError(
    'TENSOR_RELEASED',
    'tfjs: a tensor was used after it was released; release it with the last evaluation that reads it',
  );
}

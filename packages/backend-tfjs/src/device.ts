// What this package needs of a TensorFlow.js device: kernels by name, and memory that is counted.
import { type DType, LowbitError, type Shape, sizeOf, type TypedArray } from '@lowbit/core';
import type { KernelBackend, KernelFunc, TensorInfo } from '@tensorflow/tfjs-core';

/** Element types on a device: bytes are int32 there, since TensorFlow.js has no narrower integer. */
export type DeviceType = 'float32' | 'int32' | 'bool';

export const deviceTypes: Readonly<Record<DType, DeviceType>> = {
  float32: 'float32',
  int32: 'int32',
  int8: 'int32',
  uint8: 'int32',
  bool: 'bool',
};

/** A tensor in the device's memory. Tensors that view the same memory have the same `dataId`, and each is freed once. */
export interface Value extends TensorInfo {
  readonly dtype: DeviceType;
}

export type KernelAttributes = Readonly<Record<string, unknown>>;

/** How a device was opened. */
export interface OpenDevice {
  /** Package, version and processor, for records. */
  readonly description: string;
  readonly backend: KernelBackend;
  /** The kernel of a name, where the device has it. */
  kernel(name: string): KernelFunc | undefined;
  /** Throws what has gone wrong on the device meanwhile. */
  check?(): void;
  /** Watches over the kernels that run until its answer is called, without a turn of the event loop between: that rejects with what went wrong. */
  watch?(): () => Promise<void>;
  /** Elements of a tensor; the device's own way where that one leaves copies behind. */
  read?(value: Value): Promise<TypedArray>;
  /** Gives memory back that the device keeps for reuse. */
  trim?(): void;
  close(): void | Promise<void>;
}

/** Runs kernels and counts the memory of what they give. */
export class Device {
  readonly #open: OpenDevice;
  readonly #memory = new Map<object, { users: number; readonly bytes: number }>();
  /** Bytes of all values now. */
  bytes = 0;
  /** The most bytes of all values at one time. */
  peakBytes = 0;

  constructor(open: OpenDevice) {
    this.#open = open;
  }

  get description(): string {
    return this.#open.description;
  }

  /** Pieces of memory that the engine holds, those that its own kernels forgot to free among them. */
  get pieces(): number {
    return this.#open.backend.numDataIds();
  }

  /** @throws TFJS_KERNEL when the engine does not have the kernel or it fails. */
  run(name: string, inputs: Readonly<Record<string, Value>> | readonly Value[], attrs: KernelAttributes = {}): Value {
    const kernel = this.#open.kernel(name);
    if (!kernel) throw new LowbitError('TFJS_KERNEL', `${this.description}: has no kernel ${name}`);
    let output: TensorInfo;
    try {
      output = kernel({ inputs: inputs as never, attrs: attrs as never, backend: this.#open.backend }) as TensorInfo;
    } catch (cause) {
      const shapes = Object.values(inputs).map(({ dtype, shape }: Value) => `${dtype}[${shape}]`);
      throw new LowbitError('TFJS_KERNEL', `${this.description}: ${name} of ${shapes.join(', ')} failed: ${String(cause)}`, { cause });
    }
    return this.#hold(output);
  }

  /** Another value over the same memory. */
  alias(x: Value): Value {
    return this.run('Reshape', { x }, { shape: [...x.shape] });
  }

  /** Copies host memory to the device; where the device computes on host memory, it may stay where it is. */
  upload(data: TypedArray, shape: Shape, dtype: DeviceType): Value {
    const isHeld =
      dtype === 'float32' ? data instanceof Float32Array : dtype === 'bool' ? data instanceof Uint8Array : data instanceof Int32Array;
    const elements = isHeld && !(data.buffer instanceof SharedArrayBuffer) ? data : copyAs(data, dtype);
    return this.#hold({ dataId: this.#open.backend.write(elements as Float32Array, [...shape], dtype), shape: [...shape], dtype });
  }

  /** Elements of a value, in memory of the caller's own or that nobody writes to. */
  async download(value: Value): Promise<TypedArray> {
    if (sizeOf(value.shape) === 0) return copyAs([], value.dtype);
    const data = this.#open.read ? await this.#open.read(value) : ((await this.#open.backend.read(value.dataId)) as TypedArray);
    this.#open.check?.();
    return data;
  }

  free({ dataId }: Value): void {
    const piece = this.#memory.get(dataId);
    if (!piece) return;
    this.#open.backend.disposeData(dataId);
    if (--piece.users > 0) return;
    this.#memory.delete(dataId);
    this.bytes -= piece.bytes;
  }

  /** Called before the kernels of an evaluation; the answer right after them. @throws TFJS_DEVICE what the device finds wrong with them. */
  watch(): () => Promise<void> {
    return this.#open.watch?.() ?? (() => Promise.resolve());
  }

  /** After an evaluation. */
  settle(): void {
    this.#open.check?.();
    this.#open.trim?.();
  }

  async close(): Promise<void> {
    await this.#open.close();
  }

  #hold({ dataId, shape, dtype }: TensorInfo): Value {
    const value = { dataId, shape, dtype: dtype as DeviceType };
    const piece = this.#memory.get(dataId) ?? { users: 0, bytes: bytesOf(value) };
    if (piece.users++ === 0) {
      this.#memory.set(dataId, piece);
      this.bytes += piece.bytes;
      this.peakBytes = Math.max(this.peakBytes, this.bytes);
    }
    return value;
  }
}

/** Memory of a value: a bool is a byte, as in host memory, though GPUs may take four. */
export function bytesOf({ shape, dtype }: Value): number {
  return sizeOf(shape) * (dtype === 'bool' ? 1 : 4);
}

function copyAs(data: ArrayLike<number>, dtype: DeviceType): TypedArray {
  if (dtype === 'float32') return Float32Array.from(data);
  return dtype === 'bool' ? Uint8Array.from(data) : Int32Array.from(data);
}

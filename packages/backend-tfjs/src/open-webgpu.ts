// WebGPU through Dawn, the implementation of the package webgpu.
import { existsSync } from 'node:fs';
import { LowbitError } from '@lowbit/core';
import type { KernelBackend } from '@tensorflow/tfjs-core';
import type { OpenDevice, Value } from './device.js';
import { importInstalled, kernelsOf } from './open-host.js';
import { webgpuKernels } from './webgpu-kernels.js';

/** Freed buffers that are kept for reuse at most, in bytes. */
const SPARE_BYTES = 2 ** 29;

interface GpuBuffer {
  readonly size: number;
  destroy(): void;
}

interface GpuDevice {
  readonly lost: Promise<{ readonly message: string }>;
  addEventListener(type: 'uncapturederror', listener: (event: { readonly error: { readonly message: string } }) => void): void;
  pushErrorScope(filter: 'validation' | 'out-of-memory'): void;
  popErrorScope(): Promise<{ readonly message: string } | null>;
  destroy(): void;
}

interface GpuAdapter {
  readonly limits: Readonly<Record<string, number>>;
  readonly info: {
    readonly vendor: string;
    readonly architecture: string;
    readonly device: string;
    readonly description: string;
    readonly isFallbackAdapter?: boolean;
  };
  requestDevice(descriptor: { readonly requiredLimits: Readonly<Record<string, number>> }): Promise<GpuDevice>;
}

interface Gpu {
  requestAdapter(options: { readonly powerPreference: 'high-performance' }): Promise<GpuAdapter | null>;
}

/** What this uses of TensorFlow.js' WebGPU backend. */
interface WebgpuBackend extends KernelBackend {
  readonly tensorMap: { get(id: object): { values: unknown; readonly resource?: unknown } };
  ensureCommandEncoderReady(): void;
  endComputePassEncoder(): void;
  /** Hands the kernels that were run to the device; they wait for some more otherwise. */
  submitQueue(): void;
  readonly bufferManager: { numBytesUsed: number; numBytesAllocated: number; readonly freeBuffers: Map<string, GpuBuffer[]> };
}

/** What a GPU's driver provides on Linux, one of them. */
const GPU_FILES = ['/dev/dri', '/dev/nvidia0', '/dev/dxg'];

/** Those that decide how large a tensor can be. */
const LIMITS = [
  'maxComputeWorkgroupStorageSize',
  'maxComputeWorkgroupsPerDimension',
  'maxStorageBufferBindingSize',
  'maxBufferSize',
  'maxComputeWorkgroupSizeX',
  'maxComputeInvocationsPerWorkgroup',
];

/** @param acceptsSoftware whether a driver that computes on the processor will do. */
export async function openWebgpu({ acceptsSoftware }: { acceptsSoftware: boolean }): Promise<OpenDevice> {
  // Dawn warns on the standard error where it finds no driver, which is no news where software would not do anyway.
  if (!acceptsSoftware && process.platform === 'linux' && !GPU_FILES.some(existsSync))
    throw new Error(`there is no ${GPU_FILES.join(', ')}`);
  const { create, globals } = (await importInstalled('webgpu')) as { create(flags: string[]): Gpu; globals: object };
  // TensorFlow.js looks for the classes and constants of WebGPU among the globals, as in a browser.
  for (const [name, value] of Object.entries(globals)) if (!(name in globalThis)) Object.assign(globalThis, { [name]: value });
  // Dawn ends the process when this is collected while a device is in use.
  let gpu: Gpu | undefined = create([]);
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) throw new Error('no graphics driver was found');
  const { info, limits } = adapter;
  const name = [info.vendor, info.architecture, info.device, info.description].filter(Boolean).join(' ');
  if (!acceptsSoftware && (info.isFallbackAdapter || /swiftshader|llvmpipe|software/i.test(name)))
    throw new Error(`only a software GPU was found (${name})`);
  const device = await adapter.requestDevice({ requiredLimits: Object.fromEntries(LIMITS.map((limit) => [limit, limits[limit]])) });

  let failure: string | undefined;
  let lost: string | undefined;
  device.addEventListener('uncapturederror', ({ error }) => {
    failure ??= error.message;
  });
  let isClosed = false;
  void device.lost.then(({ message }) => {
    if (!isClosed) lost = `the device was lost: ${message}`;
  });
  const kernels = await kernelsOf('webgpu');
  const backend = await createBackend(gpu, device, info);
  const report = (message: string | undefined): void => {
    if (message) throw new LowbitError('TFJS_DEVICE', `tfjs-backend-webgpu on ${name}: ${message}`);
  };
  return {
    description: `tfjs-backend-webgpu 4.22.0, ${name}`,
    backend,
    kernel(name) {
      const original = kernels(name);
      return original && (webgpuKernels[name]?.(original) ?? original);
    },
    check() {
      const message = lost ?? failure;
      failure = undefined;
      report(message);
    },
    watch() {
      device.pushErrorScope('out-of-memory');
      device.pushErrorScope('validation');
      return async () => {
        backend.ensureCommandEncoderReady();
        backend.endComputePassEncoder();
        backend.submitQueue();
        const errors = await Promise.all([device.popErrorScope(), device.popErrorScope()]);
        report(lost ?? errors.find((error) => error)?.message);
      };
    },
    async read(value: Value) {
      const data = await backend.read(value.dataId);
      const held = backend.tensorMap.get(value.dataId);
      // The copy in host memory would live as long as the one on the device, where that has one yet.
      if (held.resource) held.values = null;
      return data as never;
    },
    trim: () => dropSpareBuffers(backend.bufferManager),
    close() {
      isClosed = true;
      backend.dispose();
      device.destroy();
      gpu = undefined;
    },
  };
}

/** The backend asks for `navigator.gpu` while it is made, and never again. */
async function createBackend(gpu: Gpu, device: GpuDevice, info: GpuAdapter['info']): Promise<WebgpuBackend> {
  const { env } = await import('@tensorflow/tfjs-core');
  const { WebGPUBackend } = await import('@tensorflow/tfjs-backend-webgpu');
  // Small tensors are computed on the GPU as well, so that results do not depend on where a tensor comes from.
  env().set('WEBGPU_CPU_FORWARD', false);
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', { value: { gpu }, configurable: true });
  try {
    return new WebGPUBackend(device as never, info as never) as unknown as WebgpuBackend;
  } finally {
    if (before) Object.defineProperty(globalThis, 'navigator', before);
    else Reflect.deleteProperty(globalThis, 'navigator');
  }
}

/** Freed buffers are kept by size, without a limit: a run that goes through many shapes would fill the GPU with them. */
function dropSpareBuffers(manager: WebgpuBackend['bufferManager']): void {
  if (manager.numBytesAllocated - manager.numBytesUsed <= SPARE_BYTES) return;
  for (const buffers of manager.freeBuffers.values()) {
    for (const buffer of buffers) {
      buffer.destroy();
      manager.numBytesAllocated -= buffer.size;
    }
  }
  manager.freeBuffers.clear();
}

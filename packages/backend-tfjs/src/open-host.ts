// Devices that compute on the processor, and TensorFlow's own library, which computes on a GPU as well.
import { backend as activeBackend, getBackend, getKernel, type KernelBackend, type KernelFunc, setBackend } from '@tensorflow/tfjs-core';
import type { OpenDevice } from './device.js';

const VERSION = '4.22.0';

/** Plain JavaScript. */
export async function openCpu(): Promise<OpenDevice> {
  const { MathBackendCPU } = await import('@tensorflow/tfjs-backend-cpu');
  // It prints an advertisement when it is used for the first time.
  const backend = new MathBackendCPU();
  Object.assign(backend, { firstUse: false });
  return { description: `tfjs-backend-cpu ${VERSION}`, backend, kernel: kernelsOf('cpu'), close: () => backend.dispose() };
}

/**
 * WebAssembly. Its kernels are bound to one instance a process, so that all backends share it, with whatever else in the process uses
 * TensorFlow.js; it stays until the process ends.
 */
export async function openWasm(): Promise<OpenDevice> {
  await import('@tensorflow/tfjs-backend-wasm');
  const before = getBackend();
  if (!(await setBackend('wasm'))) throw new Error('the WebAssembly module did not start');
  const backend = activeBackend();
  if (before && before !== 'wasm') await setBackend(before);
  return { description: `tfjs-backend-wasm ${VERSION}, SIMD`, backend, kernel: kernelsOf('wasm'), close: () => {} };
}

/** What this needs of TensorFlow.js for Node, which is not installed with this package. */
interface NodeModule {
  readonly getKernel: typeof getKernel;
  backend(): KernelBackend & { readonly isUsingGpuDevice?: boolean };
  ready(): Promise<void>;
  readonly version?: { readonly 'tfjs-node'?: string };
}

/** TensorFlow's library, through the package for Node or the one for Node with CUDA. */
export async function openNode(packageName: string, needsGpu: boolean): Promise<OpenDevice> {
  // The library reports its processor's features otherwise.
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2';
  const loaded = (await import(packageName)) as NodeModule & { default?: NodeModule };
  const module = loaded.default ?? loaded;
  await module.ready();
  const backend = module.backend();
  if (needsGpu && !backend.isUsingGpuDevice) throw new Error(`${packageName} found no CUDA device`);
  return {
    description: `${packageName.replace('@tensorflow/', '')} ${module.version?.['tfjs-node'] ?? ''}`.trim(),
    backend,
    // Its own registry: the package may bring another copy of TensorFlow.js along.
    kernel: (name) => module.getKernel(name, 'tensorflow')?.kernelFunc,
    close: () => {},
  };
}

export function kernelsOf(device: string): (name: string) => KernelFunc | undefined {
  return (name) => getKernel(name, device)?.kernelFunc;
}

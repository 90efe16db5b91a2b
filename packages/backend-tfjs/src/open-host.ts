// Devices that compute on the processor, and TensorFlow's own library, which computes on a GPU as well.
import { createRequire } from 'node:module';
import type { KernelBackend, KernelFunc, TensorInfo } from '@tensorflow/tfjs-core';
import type { OpenDevice } from './device.js';
import { wasmKernels } from './wasm-kernels.js';

const VERSION = '4.22.0';

/**
 * TensorFlow.js, loaded when a device needs it: TensorFlow for Node may bring a copy of its own along. In this mode it prints nothing: neither
 * that there are two copies, nor advertisements.
 */
async function loadCore(): Promise<typeof import('@tensorflow/tfjs-core')> {
  const core = await import('@tensorflow/tfjs-core');
  core.enableProdMode();
  return core;
}

/** Plain JavaScript. */
export async function openCpu(): Promise<OpenDevice> {
  const kernel = await kernelsOf('cpu');
  const { MathBackendCPU } = await import('@tensorflow/tfjs-backend-cpu');
  const backend = new MathBackendCPU();
  return { description: `tfjs-backend-cpu ${VERSION}`, backend, kernel, close: () => backend.dispose() };
}

/**
 * WebAssembly. Its kernels are bound to one instance a process, so that all backends share it, with whatever else in the process uses
 * TensorFlow.js; it stays until the process ends.
 */
export async function openWasm(): Promise<OpenDevice> {
  const { backend: activeBackend, getBackend, setBackend } = await loadCore();
  await import('@tensorflow/tfjs-backend-wasm');
  const kernels = await kernelsOf('wasm');
  const before = getBackend();
  if (!(await setBackend('wasm'))) throw new Error('the WebAssembly module did not start');
  const backend = activeBackend();
  if (before && before !== 'wasm') await setBackend(before);
  return {
    description: `tfjs-backend-wasm ${VERSION}, SIMD`,
    backend,
    kernel: wasmKernels(kernels),
    close: () => {},
  };
}

/** Loads a package that is not installed with this one. */
export async function importInstalled(name: string): Promise<object> {
  try {
    createRequire(import.meta.url).resolve(name);
  } catch (cause) {
    throw new Error(`the package ${name} is not installed`, { cause });
  }
  return import(name);
}

/** What this needs of TensorFlow.js for Node, which is not installed with this package. */
interface NodeModule {
  getKernel(name: string, device: string): { readonly kernelFunc: KernelFunc } | undefined;
  engine(): { makeTensorFromTensorInfo(info: TensorInfo): TensorInfo };
  backend(): KernelBackend & { readonly isUsingGpuDevice?: boolean };
  ready(): Promise<void>;
  enableProdMode(): void;
  readonly version?: { readonly 'tfjs-node'?: string };
}

/** TensorFlow's library, through the package for Node or the one for Node with CUDA. */
export async function openNode(packageName: string, needsGpu: boolean): Promise<OpenDevice> {
  // The library reports its processor's features otherwise.
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2';
  const loaded = (await importInstalled(packageName)) as NodeModule & { default?: NodeModule };
  const module = loaded.default ?? loaded;
  module.enableProdMode();
  await module.ready();
  const backend = module.backend();
  if (needsGpu && !backend.isUsingGpuDevice) throw new Error(`${packageName} found no CUDA device`);
  return {
    description: `${packageName.replace('@tensorflow/', '')} ${module.version?.['tfjs-node'] ?? ''}`.trim(),
    backend,
    // Its own registry: the package may bring another copy of TensorFlow.js along.
    kernel(name) {
      const kernel = module.getKernel(name, 'tensorflow')?.kernelFunc;
      return kernel && name === 'Pow' ? onTensors(kernel, module) : kernel;
    },
    close: () => {},
  };
}

/** A kernel that calls methods of its inputs, where the others take any description of a tensor. */
function onTensors(kernel: KernelFunc, module: NodeModule): KernelFunc {
  return ({ inputs, ...call }) => {
    const tensors = Object.entries(inputs).map(([name, x]) => [name, module.engine().makeTensorFromTensorInfo(x as TensorInfo)]);
    return kernel({ ...call, inputs: Object.fromEntries(tensors) });
  };
}

/** The kernels that are registered for a device. */
export async function kernelsOf(device: string): Promise<(name: string) => KernelFunc | undefined> {
  const { getKernel } = await loadCore();
  return (name) => getKernel(name, device)?.kernelFunc;
}

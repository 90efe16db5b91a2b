// Backends by name: 'onnxruntime:webgpu', 'tfjs:wasm', 'reference', and 'auto' where the machine is to decide.
import { createOnnxBackend, type Provider, providers } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import type { TfjsDevice } from '@lowbit/backend-tfjs';
import { type Backend, LowbitError } from '@lowbit/core';
import { didYouMean } from './suggestion.js';

const AUTO = 'auto';

const TFJS_DEVICES: readonly TfjsDevice[] = ['cuda', 'webgpu', 'node', 'wasm', 'cpu'];

/** Every device that a backend may compute on, by names that say both. */
export const deviceNames: readonly string[] = [
  ...providers.map((provider) => `onnxruntime:${provider}`),
  ...TFJS_DEVICES.map((device) => `tfjs:${device}`),
  'reference',
];

/** Names that leave the device to a backend, or the backend to lowbit, by what they mean. TensorFlow.js is for who asks for it. */
const shortNames: Readonly<Record<string, string>> = {
  [AUTO]: `onnxruntime:${AUTO}`,
  onnxruntime: 'onnxruntime:cpu',
  tfjs: `tfjs:${AUTO}`,
};

/** Every name that a person may say. */
export const backendNames: readonly string[] = [...Object.keys(shortNames), ...deviceNames, `onnxruntime:${AUTO}`, `tfjs:${AUTO}`];

/** The full form of a backend's name: 'onnxruntime:cpu' of 'onnxruntime'. @throws BACKEND_UNKNOWN with the nearest name. */
export function backendName(name: string): string {
  if (!backendNames.includes(name))
    throw new LowbitError('BACKEND_UNKNOWN', `no backend is called '${name}'; ${didYouMean(name, backendNames)}`);
  return shortNames[name] ?? name;
}

/** Whether a backend computes on as many threads as it is told. */
export function hasThreads(name: string): boolean {
  return backendName(name).startsWith('onnxruntime:');
}

export interface BackendRequest {
  /** As `backendName` takes them. */
  readonly backend: string;
  /** Of ONNX Runtime; all cores by default. */
  readonly threads?: number | undefined;
  /** Of ONNX Runtime: whether programs keep their working memory from run to run. Default: true. */
  readonly keepMemory?: boolean | undefined;
}

/** @throws BACKEND_UNKNOWN; BACKEND_PACKAGE where TensorFlow.js is not installed; BACKEND_UNAVAILABLE where a device is missing. */
export async function openBackend({ backend, threads, keepMemory = true }: BackendRequest): Promise<Backend> {
  const [engine, device] = backendName(backend).split(':');
  if (engine === 'reference') return createReferenceBackend();
  if (engine === 'tfjs') return (await tfjs()).createTfjsBackend({ device: device as TfjsDevice | typeof AUTO });
  return createOnnxBackend({ provider: device as Provider | typeof AUTO, keepMemory, ...(threads !== undefined && { threads }) });
}

export interface ChosenBackend {
  /** A device's name: nothing is left to the machine. */
  readonly backend: string;
  /** Why, where something was. */
  readonly chosen?: string | undefined;
}

/** What a name stands for on this machine. @throws what `openBackend` throws. */
export async function chooseBackend(request: BackendRequest): Promise<ChosenBackend> {
  const backend = backendName(request.backend);
  if (!backend.endsWith(`:${AUTO}`)) return { backend };
  const opened = await openBackend(request);
  await opened.dispose();
  return { backend: opened.name, chosen: opened.chosen };
}

async function tfjs(): Promise<typeof import('@lowbit/backend-tfjs')> {
  try {
    return await import('@lowbit/backend-tfjs');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw cause;
    const remedy = 'TensorFlow.js is no part of lowbit: install it with `npm install @lowbit/backend-tfjs`, or leave it to onnxruntime';
    throw new LowbitError('BACKEND_PACKAGE', `backend tfjs: the package @lowbit/backend-tfjs is missing; ${remedy}`, { cause });
  }
}

// Where ONNX Runtime computes: what a machine offers, and what is missing where it does not.
import { createRequire } from 'node:module';
import { LowbitError, neg, structureOf, type Tensor, tensor } from '@lowbit/core';
import type { InferenceSession } from 'onnxruntime-node';
import { kernelsFor } from './kernels.js';
import { compile, type Program } from './program.js';

/** Execution providers of ONNX Runtime. cpu and webgpu are in the npm package; the others must be installed by the user. */
export type Provider = 'cpu' | 'webgpu' | 'cuda' | 'coreml' | 'dml';

/** All of them, whether this machine has them or not. */
export const providers: readonly Provider[] = ['cpu', 'webgpu', 'cuda', 'coreml', 'dml'];

/** Where the engine's package lies depends on who installed it. */
const installer = (): string => createRequire(import.meta.url).resolve('onnxruntime-node/script/install.js');

/** What a user installs to get a provider that could not be started. */
const remedies: Readonly<Record<Exclude<Provider, 'cpu'>, () => string>> = {
  webgpu: () =>
    'it needs a GPU with a driver that this process can load (Vulkan, with its loader libvulkan.so.1, on Linux x64, Metal on macOS, D3D12 on Windows)',
  cuda: () =>
    `on Linux x64, install an NVIDIA driver, CUDA 12 and cuDNN 9, and then the provider's library with \`node ${installer()} --onnxruntime-node-install=cuda12\``,
  coreml: () => 'it exists on macOS only',
  dml: () => 'it exists on Windows only',
};

/** Nodes that a provider has no kernel for run on the processor, within one session. */
export function executionProviders(provider: Provider): Provider[] {
  return provider === 'cpu' ? ['cpu'] : [provider, 'cpu'];
}

/**
 * Runs a trivial graph, so that a missing device is reported now and not in the middle of a run.
 * @throws BACKEND_UNAVAILABLE with what to install.
 */
export async function requireProvider(provider: Provider, options: InferenceSession.SessionOptions): Promise<void> {
  if (provider === 'cpu') return;
  try {
    const program = await compileOn(provider, neg(tensor([1])), { ...options, executionProviders: [provider] });
    await program.run([Float32Array.of(1)], [new Float32Array(1)]);
    await program.release();
  } catch (cause) {
    throw new LowbitError(
      'BACKEND_UNAVAILABLE',
      `onnxruntime: provider '${provider}' could not be started here (${reasonOf(cause)}): ${remedies[provider]()}. Use provider 'cpu' otherwise`,
      { cause },
    );
  }
}

/** What the engine said first, without where in its sources it says so. */
export function reasonOf(error: unknown): string {
  let first = error;
  while (first instanceof Error && first.cause) first = first.cause;
  const [line] = (first instanceof Error ? first.message : String(first)).split('\n');
  return line.replace(/^.* was false\. /, '').trim();
}

/** Compiles a graph of one root for a provider. */
export function compileOn(provider: Provider, root: Tensor, options: InferenceSession.SessionOptions): Promise<Program> {
  const kernels = kernelsFor(provider);
  return compile(structureOf([root], kernels), kernels, options);
}

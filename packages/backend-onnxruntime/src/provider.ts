// Where ONNX Runtime computes: what a machine offers, what is missing where it does not, and the choice where nobody makes one.
import { createRng, LowbitError, matmul, neg, type Tensor, tensor } from '@lowbit/core';
import { env, type InferenceSession } from 'onnxruntime-node';
import { kernelsFor } from './kernels.js';
import { compile, type Program } from './program.js';
import { structureOf } from './structure.js';

/** Execution providers of ONNX Runtime. cpu and webgpu are in the npm package; the others must be installed by the user. */
export type Provider = 'cpu' | 'webgpu' | 'cuda' | 'coreml' | 'dml';

/** All of them, whether this machine has them or not. */
export const providers: readonly Provider[] = ['cpu', 'webgpu', 'cuda', 'coreml', 'dml'];

/** Those that 'auto' tries, the fastest first. CoreML and DirectML compute with fewer bits, or lack much of what a graph needs. */
const CANDIDATES: readonly Exclude<Provider, 'cpu'>[] = ['cuda', 'webgpu'];

/** What a user installs to get a provider that could not be started. */
const REMEDIES: Readonly<Record<Exclude<Provider, 'cpu'>, string>> = {
  webgpu:
    'it needs a GPU with a driver that this process can load (Vulkan, with its loader libvulkan.so.1, on Linux x64, Metal on macOS, D3D12 on Windows)',
  cuda: "on Linux x64, install an NVIDIA driver, CUDA 12 and cuDNN 9, and then the provider's library with `node node_modules/onnxruntime-node/script/install.js --onnxruntime-node-install=cuda12`",
  coreml: 'it exists on macOS only',
  dml: 'it exists on Windows only',
};

export interface ProviderChoice {
  readonly provider: Provider;
  /** For people: 'webgpu, since a 512-cube matmul takes 1.3 ms there and 4.1 ms on cpu'. */
  readonly reason: string;
}

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
  // The engine would log what is thrown here as well.
  env.logLevel = 'fatal';
  try {
    const program = await compileOn(provider, neg(tensor([1])), { ...options, executionProviders: [provider] });
    await program.run([Float32Array.of(1)], [new Float32Array(1)]);
    await program.release();
  } catch (cause) {
    throw new LowbitError(
      'BACKEND_UNAVAILABLE',
      `onnxruntime: provider '${provider}' could not be started here: ${REMEDIES[provider]}. Use provider 'cpu' otherwise`,
      { cause },
    );
  }
}

/** The first provider that starts here and multiplies matrices faster than the processor: a GPU in software does not. */
export async function chooseProvider(options: InferenceSession.SessionOptions): Promise<ProviderChoice> {
  const missing: string[] = [];
  let onCpu: number | undefined;
  for (const provider of CANDIDATES) {
    try {
      await requireProvider(provider, options);
    } catch {
      missing.push(`${provider} could not be started`);
      continue;
    }
    onCpu ??= await matmulMilliseconds('cpu', options);
    const there = await matmulMilliseconds(provider, options);
    const measured = `a ${SIDE}-cube matmul takes ${there.toPrecision(2)} ms on ${provider} and ${onCpu.toPrecision(2)} ms on cpu`;
    if (there < onCpu) return { provider, reason: `${provider}, since ${measured}` };
    missing.push(measured);
  }
  return { provider: 'cpu', reason: `cpu, since ${missing.join(' and ')}` };
}

const SIDE = 512;

/** Best of three, with the matrices in host memory, after a run that compiles. */
async function matmulMilliseconds(provider: Provider, options: InferenceSession.SessionOptions): Promise<number> {
  const values = createRng(0).normal(SIDE * SIDE);
  const x = tensor(values, [SIDE, SIDE]);
  const program = await compileOn(provider, matmul(x, x), { ...options, executionProviders: executionProviders(provider) });
  const output = new Float32Array(SIDE * SIDE);
  let best = Infinity;
  for (let i = 0; i < 4; i++) {
    const milliseconds = await program.run([values], [output]);
    if (i > 0) best = Math.min(best, milliseconds);
  }
  await program.release();
  return best;
}

function compileOn(provider: Provider, root: Tensor, options: InferenceSession.SessionOptions): Promise<Program> {
  const kernels = kernelsFor(provider);
  return compile(structureOf([root], kernels.fuses), kernels, options);
}

// Where ONNX Runtime computes where nobody says: the first provider that starts here and is faster than the processor.
import { existsSync } from 'node:fs';
import { createRng, matmul, tensor } from '@lowbit/core';
import type { InferenceSession } from 'onnxruntime-node';
import { compileOn, executionProviders, type Provider, reasonOf, requireProvider } from './provider.js';

/** Those that are tried, the fastest first. CoreML and DirectML compute with fewer bits, or lack much of what a graph needs. */
const CANDIDATES: readonly Exclude<Provider, 'cpu'>[] = ['cuda', 'webgpu'];

/** What a GPU's driver provides on Linux, one of them. Without, engines would look for a driver and complain on the standard error. */
const GPU_FILES = ['/dev/dri', '/dev/nvidiactl', '/dev/dxg'];

/** Orders of the matrices that are multiplied: by the first ones a GPU in software is found out, and in the last copies count for little. */
const SIDES = [128, 256, 512, 1024, 2048];

/** Nobody waits longer for a copy or the start of a kernel, in milliseconds: what does, and is slower than the processor, computes slowly. */
const PATIENCE = 100;

export interface ProviderChoice {
  readonly provider: Provider;
  /** For people: 'webgpu, since a 512-cube matmul takes 1.3 ms on webgpu and 4.1 ms on cpu'. */
  readonly reason: string;
}

/** The first provider that starts here and multiplies matrices faster than the processor: a GPU in software does not. */
export async function chooseProvider(options: InferenceSession.SessionOptions): Promise<ProviderChoice> {
  if (process.platform === 'linux' && !GPU_FILES.some((path) => existsSync(path))) {
    return { provider: 'cpu', reason: `cpu, since there is no GPU here (none of ${GPU_FILES.join(', ')})` };
  }
  const missing: string[] = [];
  for (const provider of CANDIDATES) {
    try {
      await requireProvider(provider, options);
    } catch (error) {
      missing.push(`${provider} could not be started (${reasonOf(error)})`);
      continue;
    }
    const { isFaster, measured } = await compareWithProcessor(provider, options);
    if (isFaster) return { provider, reason: `${provider}, since ${measured}` };
    missing.push(measured);
  }
  return { provider: 'cpu', reason: `cpu, since ${missing.join(' and ')}` };
}

export interface Comparison {
  readonly isFaster: boolean;
  /** For people: 'a 512-cube matmul takes 1.3 ms on webgpu and 4.1 ms on cpu'. */
  readonly measured: string;
}

/** Multiplies matrices, larger and larger ones, until a provider is faster than the processor or cannot be any more. */
export async function compareWithProcessor(provider: Provider, options: InferenceSession.SessionOptions): Promise<Comparison> {
  for (let i = 0; ; i++) {
    const side = SIDES[i];
    const there = await matmulMilliseconds(provider, side, options);
    const onCpu = await matmulMilliseconds('cpu', side, options);
    if (there >= onCpu && there <= PATIENCE && i < SIDES.length - 1) continue;
    const measured = `a ${side}-cube matmul takes ${there.toPrecision(2)} ms on ${provider} and ${onCpu.toPrecision(2)} ms on cpu`;
    return { isFaster: there < onCpu, measured };
  }
}

/** Best of three after a run that compiles, or less where one takes long. The matrices are in host memory. */
async function matmulMilliseconds(provider: Provider, side: number, options: InferenceSession.SessionOptions): Promise<number> {
  const values = createRng(0).normal(side * side);
  const x = tensor(values, [side, side]);
  const program = await compileOn(provider, matmul(x, x), { ...options, executionProviders: executionProviders(provider) });
  const output = new Float32Array(side * side);
  await program.run([values], [output]);
  let best = await program.run([values], [output]);
  for (let i = 0; i < 2 && best < PATIENCE; i++) best = Math.min(best, await program.run([values], [output]));
  await program.release();
  return best;
}

// Run as a process: what the engine refuses, before and after it has computed something.
import { gather, mul, tensor } from '@lowbit/core';
import { createOnnxBackend } from '../src/index.js';

const codes: string[] = [];
const refused = async (work: () => Promise<unknown>): Promise<void> => {
  const error = await work().catch((thrown: unknown) => thrown);
  codes.push((error as { readonly code?: string }).code ?? 'none');
};
const backend = await createOnnxBackend({ threads: 1 });
await backend.evaluate([mul(tensor([1]), 2)]);
await refused(() => backend.evaluate([gather(tensor([1, 2]), tensor(Int32Array.of(7)))]));
await refused(() => createOnnxBackend({ provider: process.platform === 'darwin' ? 'dml' : 'coreml' }));
await refused(() => createOnnxBackend({ provider: 'cuda' }));
await backend.dispose();
process.stdout.write(codes.join());

// The backend: a cache of compiled programs by structure, and a pool of result buffers.
import { availableParallelism } from 'node:os';
import { arrayTypes, type Backend, type CompositeName, LowbitError, neg, read, type Tensor, type TypedArray, tensor } from '@lowbit/core';
import { env, type InferenceSession } from 'onnxruntime-node';
import { BufferPool } from './buffer-pool.js';
import { fusions } from './emit-composites.js';
import { compile, leafOrder } from './program.js';
import { ProgramCache } from './program-cache.js';
import { structureOf } from './structure.js';

/** Execution providers of ONNX Runtime. cpu and webgpu are in the npm package; the others must be installed by the user. */
export type Provider = 'cpu' | 'webgpu' | 'cuda' | 'coreml' | 'dml';

export interface OnnxBackendOptions {
  /** Default: 'cpu'. */
  readonly provider?: Provider;
  /** Threads within an operator. Default: all cores. Results are equal bytes for an equal number of threads. */
  readonly threads?: number;
  /**
   * Whether threads spin while they wait for each other within a run: faster on an idle machine, wasteful on one that is busy with
   * other work. Default: true.
   */
  readonly spin?: boolean;
  /**
   * Whether a program keeps its working memory from run to run. Without it, memory is taken anew and given back, which costs up to a tenth
   * of the time, and the process needs the memory of its largest program and not of all. Default: true.
   */
  readonly keepMemory?: boolean;
  /** Compiled programs that are kept at most, least recently used dropped first; fewer when their working memory is large. Default: 128. */
  readonly programs?: number;
}

const PROVIDERS: readonly Provider[] = ['cpu', 'webgpu', 'cuda', 'coreml', 'dml'];

/** Released result buffers kept for reuse, in bytes: enough for two copies of a training step's state of a small model. */
const POOL_BYTES = 2 ** 28;

/** Working memory that idle programs may hold; past it the least recently used are compiled anew when they are needed again. */
const PROGRAM_BYTES = 2 ** 29;

function fuses(op: CompositeName, node: Tensor): boolean {
  return fusions[op]?.accepts(node) ?? false;
}

/**
 * A backend on ONNX Runtime.
 * @throws BACKEND_PROVIDER for an unknown provider; BACKEND_UNAVAILABLE when its device or driver is missing, with what to
 * install; BACKEND_THREADS and BACKEND_PROGRAMS for a count below 1.
 */
export async function createOnnxBackend({
  provider = 'cpu',
  threads = availableParallelism(),
  spin = true,
  keepMemory = true,
  programs = 128,
}: OnnxBackendOptions = {}): Promise<Backend> {
  if (!PROVIDERS.includes(provider)) {
    throw new LowbitError('BACKEND_PROVIDER', `onnxruntime: unknown provider '${provider}'; known: ${PROVIDERS.join(', ')}`);
  }
  if (!Number.isInteger(threads) || threads < 1)
    throw new LowbitError('BACKEND_THREADS', `onnxruntime: threads must be a positive integer, got ${threads}`);
  if (!Number.isInteger(programs) || programs < 1)
    throw new LowbitError('BACKEND_PROGRAMS', `onnxruntime: programs must be a positive integer, got ${programs}`);
  const sessionOptions: InferenceSession.SessionOptions = {
    executionProviders: provider === 'cpu' ? ['cpu'] : [provider, 'cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
    // Planning a run's buffers as one piece was no faster, and held that piece beside those of the first run: twice the memory.
    enableMemPattern: false,
    enableCpuMemArena: keepMemory,
    // Threads never spin after a run: the host's own loops need the cores.
    extra: { session: { force_spinning_stop: '1', intra_op: { allow_spinning: spin ? '1' : '0' } } },
  };
  if (provider !== 'cpu') await probe(provider, sessionOptions);
  const cache = new ProgramCache((structure) => compile(structure, sessionOptions), { programs, bytes: PROGRAM_BYTES });
  const pool = new BufferPool(POOL_BYTES);
  let evaluations = 0;
  let engineMilliseconds = 0;

  return {
    name: `onnxruntime:${provider}`,
    fingerprint: `onnxruntime ${env.versions.node} ${provider}, ${threads} threads`,
    get statistics() {
      return { compilations: cache.compilations, evaluations, engineMilliseconds };
    },
    async evaluate(tensors, { release = [] } = {}) {
      const pending = [...new Set(tensors.filter((t) => !t.isLeaf))];
      const results = new Map<Tensor, Tensor>();
      if (pending.length > 0) {
        evaluations++;
        const structure = structureOf(pending, fuses);
        const cached = cache.acquire(structure);
        try {
          const program = await cached.program;
          const leaves: TypedArray[] = [];
          for (const number of leafOrder(structure)) leaves.push(await hostData(structure.leaves.get(number) as Tensor));
          const outputs = pending.map((t) => pool.take(t.dtype, t.size));
          engineMilliseconds += await program.run(leaves, outputs);
          pending.forEach((t, i) => {
            results.set(t, tensor(outputs[i], t.shape, t.dtype));
          });
        } finally {
          await cached.giveBack();
        }
      }
      for (const leaf of release) if (leaf.source.kind === 'leaf' && leaf.source.data) pool.give(leaf.dtype, leaf.source.data);
      return tensors.map((t) => results.get(t) ?? t) as never;
    },
    dispose: () => cache.clear(),
  };
}

/** What a user installs to get a provider that could not be started. */
const REMEDIES: Readonly<Record<Exclude<Provider, 'cpu'>, string>> = {
  webgpu: 'it needs a GPU with a Vulkan, Metal or D3D12 driver that this process can load',
  cuda: "install CUDA 12 or newer and cuDNN 9, then run onnxruntime-node's install script (`npm rebuild onnxruntime-node`) on Linux x64",
  coreml: 'it exists on macOS only',
  dml: 'it exists on Windows only',
};

/** Compiles a trivial graph, so that a missing device is reported now and not in the middle of a run. */
async function probe(provider: Exclude<Provider, 'cpu'>, options: InferenceSession.SessionOptions): Promise<void> {
  try {
    const program = await compile(structureOf([neg(tensor([1]))], fuses), { ...options, executionProviders: [provider] });
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

/** Elements of a leaf in memory the engine can read: not shared between threads. */
async function hostData(leaf: Tensor): Promise<TypedArray> {
  const data = leaf.source.kind === 'leaf' && leaf.source.data ? leaf.source.data : await read(leaf);
  return data.buffer instanceof SharedArrayBuffer ? new arrayTypes[leaf.dtype](data) : data;
}

// The backend: a cache of compiled programs by structure, and a pool of result buffers.
import { availableParallelism } from 'node:os';
import { arrayTypes, type Backend, LowbitError, read, structureOf, type Tensor, type TypedArray, tensor } from '@lowbit/core';
import { env, type InferenceSession } from 'onnxruntime-node';
import { BufferPool } from './buffer-pool.js';
import { chooseProvider } from './choose-provider.js';
import { kernelsFor } from './kernels.js';
import { compile, leafOrder } from './program.js';
import { ProgramCache } from './program-cache.js';
import { executionProviders, type Provider, providers, requireProvider } from './provider.js';
import { type Feed, ResidentLeaves } from './resident-leaves.js';

export interface OnnxBackendOptions {
  /** Default: 'cpu'. 'auto' takes a GPU if one starts and is faster than the processor, and says why in `chosen`. */
  readonly provider?: Provider | 'auto';
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
  /** On WebGPU, bytes of leaves that stay on the device, those used last. Default: 2 GiB. */
  readonly deviceBytes?: number;
}

/** Released result buffers kept for reuse, in bytes: enough for two copies of a training step's state of a small model. */
const POOL_BYTES = 2 ** 28;

/** Working memory that idle programs may hold; past it the least recently used are compiled anew when they are needed again. */
const PROGRAM_BYTES = 2 ** 29;

/** The engine starts them all for each program, and does not come back from starting a hundred thousand. */
const MOST_THREADS = 1024;

/**
 * A backend on ONNX Runtime.
 * @throws BACKEND_PROVIDER for an unknown provider; BACKEND_UNAVAILABLE when its device or driver is missing, with what to
 * install; BACKEND_PROGRAMS for a count below 1, BACKEND_THREADS for one below 1 or above 1024.
 */
export async function createOnnxBackend({
  provider: wanted = 'cpu',
  threads = availableParallelism(),
  spin = true,
  keepMemory = true,
  programs = 128,
  deviceBytes = 2 ** 31,
}: OnnxBackendOptions = {}): Promise<Backend> {
  if (wanted !== 'auto' && !providers.includes(wanted)) {
    throw new LowbitError('BACKEND_PROVIDER', `onnxruntime: unknown provider '${wanted}'; known: ${providers.join(', ')}, auto`);
  }
  if (!Number.isInteger(threads) || threads < 1 || threads > MOST_THREADS)
    throw new LowbitError('BACKEND_THREADS', `onnxruntime: threads must be an integer from 1 to ${MOST_THREADS}, got ${threads}`);
  if (!Number.isInteger(programs) || programs < 1)
    throw new LowbitError('BACKEND_PROGRAMS', `onnxruntime: programs must be a positive integer, got ${programs}`);
  // What goes wrong is thrown; the engine would print it as well, of the process here and of a session below. It heeds this before its first session alone.
  env.logLevel = 'fatal';
  const common: InferenceSession.SessionOptions = {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    logSeverityLevel: 4,
    // Planning a run's buffers as one piece was no faster, and held that piece beside those of the first run: twice the memory.
    enableMemPattern: false,
    enableCpuMemArena: keepMemory,
    // Threads never spin after a run: the host's own loops need the cores.
    extra: { session: { force_spinning_stop: '1', intra_op: { allow_spinning: spin ? '1' : '0' } } },
  };
  const choice = wanted === 'auto' ? await chooseProvider(common) : undefined;
  const provider = choice?.provider ?? (wanted as Provider);
  if (!choice) await requireProvider(provider, common);
  const sessionOptions = { ...common, executionProviders: executionProviders(provider) };
  const kernels = kernelsFor(provider);
  const cache = new ProgramCache((structure) => compile(structure, kernels, sessionOptions), { programs, bytes: PROGRAM_BYTES });
  const resident = provider === 'webgpu' ? new ResidentLeaves(sessionOptions, deviceBytes) : undefined;
  const pool = new BufferPool(POOL_BYTES);
  let evaluations = 0;
  let engineMilliseconds = 0;
  let isDisposed = false;

  return {
    name: `onnxruntime:${provider}`,
    fingerprint: `onnxruntime ${env.versions.node} ${provider}, ${threads} threads`,
    ...(choice && { chosen: choice.reason }),
    get statistics() {
      const { uploads, bytes } = resident ?? {};
      return {
        ...{ compilations: cache.compilations, evaluations, engineMilliseconds },
        ...(uploads !== undefined && bytes !== undefined && { resident: { uploads, bytes } }),
      };
    },
    async evaluate(tensors, { release = [] } = {}) {
      if (isDisposed) throw new LowbitError('BACKEND_DISPOSED', `onnxruntime:${provider}: was used after dispose(); create another one`);
      const pending = [...new Set(tensors.filter((t) => !t.isLeaf))];
      const results = new Map<Tensor, Tensor>();
      if (pending.length > 0) {
        evaluations++;
        const structure = structureOf(pending, kernels);
        const cached = cache.acquire(structure);
        const feeds: Feed[] = [];
        try {
          const program = await cached.program;
          for (const number of leafOrder(structure)) {
            const leaf = structure.leaves.get(number) as Tensor;
            const data = await hostData(leaf);
            feeds.push(resident ? await resident.feed(leaf, data) : { value: data, giveBack: () => {} });
          }
          const outputs = pending.map((t) => pool.take(t.dtype, t.size));
          engineMilliseconds += await program.run(
            feeds.map(({ value }) => value),
            outputs,
          );
          pending.forEach((t, i) => {
            results.set(t, tensor(outputs[i], t.shape, t.dtype));
          });
        } finally {
          for (const feed of feeds) feed.giveBack();
          await cached.giveBack();
        }
      }
      for (const leaf of release) {
        resident?.release(leaf);
        if (leaf.source.kind === 'leaf' && leaf.source.data) pool.give(leaf.dtype, leaf.source.data);
      }
      return tensors.map((t) => results.get(t) ?? t) as never;
    },
    async dispose() {
      if (isDisposed) return;
      isDisposed = true;
      await cache.clear();
      await resident?.clear();
    },
  };
}

/** Elements of a leaf in memory the engine can read: not shared between threads. */
async function hostData(leaf: Tensor): Promise<TypedArray> {
  const data = leaf.source.kind === 'leaf' && leaf.source.data ? leaf.source.data : await read(leaf);
  return data.buffer instanceof SharedArrayBuffer ? new arrayTypes[leaf.dtype](data) : data;
}

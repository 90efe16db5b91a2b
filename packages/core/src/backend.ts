// What a compute engine must do to run lowbit's graphs.
import type { Tensor } from './tensor.js';

export interface EvaluateOptions {
  /** Leaves whose host memory the backend may reuse for results of later evaluations. They must not be read afterwards. */
  readonly release?: readonly Tensor[];
}

/** Counters since the backend was made. */
export interface BackendStatistics {
  /** Programs compiled so far. Graphs that are equal up to their leaves' elements share one. */
  readonly compilations: number;
  /** Evaluations so far. */
  readonly evaluations: number;
  /** Time spent in the engine's own runs, in milliseconds: what remains of an evaluation is lowbit's. */
  readonly engineMilliseconds: number;
  /** Leaves that were copied to the device so far, and the bytes that they hold there now; absent where leaves stay in host memory. */
  readonly resident?: { readonly uploads: number; readonly bytes: number };
}

/** A compute engine. The whole contract is tested by `describeBackend` in @lowbit/testkit. */
export interface Backend {
  /** Engine and device, for records: 'reference', 'onnxruntime:cpu'. */
  readonly name: string;
  /** Everything about the engine that may decide the last bits of a result: engine, version, device, threads. */
  readonly fingerprint: string;
  /** Why it computes on this device, for people, where nobody named one: 'webgpu, since …'. */
  readonly chosen?: string;
  readonly statistics: BackendStatistics;
  /**
   * Computes the tensors, shared subgraphs once, and returns leaves in the same order. Leaves pass through.
   * @throws BACKEND_DISPOSED after `dispose`.
   */
  evaluate<const T extends readonly Tensor[]>(tensors: T, options?: EvaluateOptions): Promise<{ -readonly [I in keyof T]: Tensor }>;
  /** Frees compiled programs and device memory. What was returned before can still be read. A second call does nothing. */
  dispose(): Promise<void>;
}

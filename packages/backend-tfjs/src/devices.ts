// The devices that TensorFlow.js computes on.

/** In the order in which 'auto' tries them: GPUs first, then the fastest that needs none. */
export const TFJS_DEVICES = ['cuda', 'webgpu', 'node', 'wasm', 'cpu'] as const;

export type TfjsDevice = (typeof TFJS_DEVICES)[number];

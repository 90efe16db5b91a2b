// What the oracles that ask lm-evaluation-harness install beside transformers, and how it is kept from asking the network.
export const requirements: readonly string[] = ['accelerate', 'lm-eval==0.4.13'];

/** For a process of the harness that reads records from `directory`. */
export function environmentFor(directory: string): Readonly<Record<string, string>> {
  return {
    ...{ HF_HUB_OFFLINE: '1', HF_DATASETS_OFFLINE: '1', HF_DATASETS_CACHE: `${directory}/cache`, CUDA_VISIBLE_DEVICES: '' },
    ...{ HF_DATASETS_DISABLE_PROGRESS_BARS: '1', TRANSFORMERS_VERBOSITY: 'error', LMEVAL_LOG_LEVEL: 'ERROR', DISABLE_MULTIPROC: '1' },
  };
}

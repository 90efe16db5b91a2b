// @lowbit/formats: model files. safetensors, Hugging Face and llama2.c checkpoints, quantized checkpoints, the run store.
export type { Checkpoint, CheckpointEntry, Provenance, SideFile, TaskRecord, TokenizerFiles } from './checkpoint.js';
export { CONFIG_FILE, readConfig } from './checkpoint-config.js';
export { directoryBytes, fileSha256 } from './disk-usage.js';
export { createFileStore, type FileStore } from './file-store.js';
export { type OpenOptions, openCheckpoint } from './open-checkpoint.js';
export { type FileRange, type Llama2cFiles, openLlama2c } from './open-llama2c.js';
export { type FileHeader, openSafetensors, type SafetensorsFile } from './safetensors-file.js';
export { MAX_HEADER_BYTES, type SafetensorsEntry } from './safetensors-header.js';
export {
  DEFAULT_SHARD_BYTES,
  type ShardOptions,
  type StoredTensor,
  storedTensor,
  type WriteOptions,
  writeSafetensors,
  writeShards,
} from './safetensors-write.js';
export { type SaveOptions, saveCheckpoint } from './save-checkpoint.js';
export { type StepRecord, stepRecord } from './step-record.js';
export type { StoredDType } from './stored-dtype.js';
export { openStories15M } from './stories15m.js';
export { transposed } from './transposed.js';

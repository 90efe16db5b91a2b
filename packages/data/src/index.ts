// @lowbit/data: tokenizers, corpora, windows and calibration sampling.
export {
  type Calibration,
  type CalibrationOptions,
  type CalibrationReport,
  describeCalibration,
  sampleCalibration,
} from './calibration.js';
export { type Corpus, type CorpusOptions, corpusOf, cutOf, partOf, type Split } from './corpus.js';
export { type CorpusFileOptions, readCorpusFile } from './corpus-file.js';
export { type HubCorpus, type HubCorpusOptions, localFile, readHubCorpus } from './hub-files.js';
export { readParquetFile } from './parquet.js';
export { findRecords, openRecords, type RecordsPlace } from './records/folder.js';
export { type DataRecord, type RecordTable, readRecords } from './records/records.js';
export { type SampleRequest, type SampleTokens, type SelfGeneratedOptions, selfGeneratedWindows } from './self-generated.js';
export { sotuCorpus } from './sotu.js';
export { sotuEra, sotuEraTables } from './sotu-era.js';
export { type BosRule, type StreamOptions, type StreamRule, type TokenStream, tokenStream } from './stream.js';
export { type BuiltTask, buildTask, describeTask, type TaskOptions, type TaskPartReport } from './task.js';
export { readTaskFile, type TaskFileOptions, type TaskRow, type TaskTable, taskTable } from './task-table.js';
export { type TextTaskOptions, textTask } from './task-text.js';
export { type DocumentRule, readJsonlFile, readTextFile } from './text-file.js';
export { createTokenizer, type EncodeOptions, loadTokenizer, type Tokenizer } from './tokenizer.js';
export { batchWindows, cutWindows, hashTokens, type TokenWindows, type WindowRule, windowsOf } from './windows.js';

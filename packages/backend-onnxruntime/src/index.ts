// @lowbit/backend-onnxruntime: the default backend. Graphs are compiled to ONNX and run by ONNX Runtime.
export { createOnnxBackend, type OnnxBackendOptions } from './backend.js';
export { type Provider, providers } from './provider.js';

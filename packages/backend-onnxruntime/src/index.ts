// @lowbit/backend-onnxruntime: the default backend. Graphs are compiled to ONNX and run by ONNX Runtime.
export { createOnnxBackend, type OnnxBackendOptions, type Provider } from './backend.js';

// @lowbit/backend-tfjs: graphs run on TensorFlow.js, with leaves and results that stay on the device.
export { createTfjsBackend, type TfjsBackend, type TfjsBackendOptions, type TfjsStatistics } from './backend.js';
export { TFJS_DEVICES, type TfjsDevice } from './devices.js';

// @lowbit/backend-tfjs: graphs run on TensorFlow.js, with leaves that stay on the device.
export { TFJS_DEVICES, type TfjsDevice } from './devices.js';

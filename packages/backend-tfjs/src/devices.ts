// The devices that TensorFlow.js computes on, how each is opened, and what to do where one is missing.
import { LowbitError } from '@lowbit/core';
import { Device, type OpenDevice } from './device.js';
import { openCpu, openNode, openWasm } from './open-host.js';
import { openWebgpu } from './open-webgpu.js';

/** In the order in which 'auto' tries them: GPUs first, then what is fastest without one. */
export const TFJS_DEVICES = ['cuda', 'webgpu', 'node', 'wasm', 'cpu'] as const;

export type TfjsDevice = (typeof TFJS_DEVICES)[number];

const NODE_BINDING = 'version 4.22 works with Node 18 to 22; Node 23 and later lack functions of node:util that it calls';

const openers: Readonly<Record<TfjsDevice, (isAutomatic: boolean) => Promise<OpenDevice>>> = {
  cuda: () => openNode('@tensorflow/tfjs-node-gpu', true),
  webgpu: (isAutomatic) => openWebgpu({ acceptsSoftware: !isAutomatic }),
  node: () => openNode('@tensorflow/tfjs-node', false),
  wasm: openWasm,
  cpu: openCpu,
};

/** What a user does to get a device that could not be opened. */
const remedies: Readonly<Record<TfjsDevice, string>> = {
  cuda: `install @tensorflow/tfjs-node-gpu (${NODE_BINDING}) on Linux or Windows x64 with an NVIDIA driver, CUDA 11 and cuDNN 8`,
  webgpu: 'install the package webgpu (0.6.2 or later, Node 20.19 and later) on a machine with a Vulkan, Metal or D3D12 driver',
  node: `install @tensorflow/tfjs-node (${NODE_BINDING})`,
  wasm: 'reinstall @tensorflow/tfjs-backend-wasm 4.22 (any Node that lowbit runs on)',
  cpu: 'reinstall @tensorflow/tfjs-backend-cpu 4.22 (any Node that lowbit runs on)',
};

/** @throws BACKEND_UNAVAILABLE with what to install. */
export async function openDevice(device: TfjsDevice, isAutomatic = false): Promise<Device> {
  try {
    return new Device(await openers[device](isAutomatic));
  } catch (cause) {
    const reason = firstLine(cause);
    const message = `tfjs: device '${device}' cannot be used here (Node ${process.versions.node}): ${reason}; ${remedies[device]}, or use another device`;
    throw new LowbitError('BACKEND_UNAVAILABLE', message, { cause });
  }
}

export interface ChosenDevice {
  readonly kind: TfjsDevice;
  readonly device: Device;
  /** 'wasm, since cuda: …; webgpu: …; node: …' */
  readonly chosen: string;
}

/** The first device of the list that opens. */
export async function chooseDevice(): Promise<ChosenDevice> {
  const reasons: string[] = [];
  for (const kind of TFJS_DEVICES) {
    try {
      const device = await openDevice(kind, true);
      const chosen = reasons.length === 0 ? `${kind}, the first choice` : `${kind}, since ${reasons.join('; ')}`;
      return { kind, device, chosen };
    } catch (error) {
      reasons.push(`${kind}: ${firstLine(error instanceof LowbitError ? error.cause : error)}`);
    }
  }
  throw new LowbitError('BACKEND_UNAVAILABLE', `tfjs: no device can be used here: ${reasons.join('; ')}; ${remedies.wasm}`);
}

function firstLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split('\n')[0];
}

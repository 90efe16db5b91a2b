// The backend: plans a graph, runs it kernel by kernel, and keeps leaves and results on the device.
import { setImmediate } from 'node:timers/promises';
import {
  type Backend,
  type BackendStatistics,
  LowbitError,
  lastUses,
  read,
  type Structure,
  structureOf,
  type Tensor,
  type TypedArray,
} from '@lowbit/core';
import { Constants } from './constants.js';
import { type Device, deviceTypes, type Value } from './device.js';
import { chooseDevice, openDevice, TFJS_DEVICES, type TfjsDevice } from './devices.js';
import { compute } from './kernels.js';
import { Residents } from './residents.js';

export interface TfjsBackendOptions {
  /**
   * `cuda` (@tensorflow/tfjs-node-gpu), `webgpu` (the package webgpu), `node` (@tensorflow/tfjs-node), `wasm`, `cpu` (plain JavaScript), or
   * `auto`: the first of these that works here, software GPUs left out. Default: 'auto'.
   */
  readonly device?: TfjsDevice | 'auto';
  /**
   * Bytes of leaves and unread results that stay on the device between evaluations; past it, those that were not used for longest leave.
   * Default: 2^30.
   */
  readonly residentBytes?: number;
}

export interface TfjsStatistics extends BackendStatistics {
  readonly resident: { readonly uploads: number; readonly bytes: number };
  /** Memory of the device: bytes of all tensors now and at most, and pieces that the engine counts. */
  readonly device: { readonly bytes: number; readonly peakBytes: number; readonly pieces: number };
}

export interface TfjsBackend extends Backend {
  readonly device: TfjsDevice;
  readonly statistics: TfjsStatistics;
}

/**
 * A backend on TensorFlow.js. Results stay on the device until they are read; what an evaluation made in between is freed at its last use.
 * @throws BACKEND_DEVICE for an unknown device; BACKEND_UNAVAILABLE when it cannot be opened, with what to install.
 */
export async function createTfjsBackend({
  device: wanted = 'auto',
  residentBytes = 2 ** 30,
}: TfjsBackendOptions = {}): Promise<TfjsBackend> {
  if (wanted !== 'auto' && !TFJS_DEVICES.includes(wanted)) {
    throw new LowbitError('BACKEND_DEVICE', `tfjs: unknown device '${wanted}'; known: auto, ${TFJS_DEVICES.join(', ')}`);
  }
  if (!(residentBytes >= 0)) throw new LowbitError('BACKEND_MEMORY', `tfjs: residentBytes must not be negative, got ${residentBytes}`);
  const opened = wanted === 'auto' ? await chooseDevice() : { kind: wanted, device: await openDevice(wanted) };
  const { kind, device } = opened;
  const residents = new Residents(device, residentBytes);
  const constants = new Constants(device);
  let evaluations = 0;
  let engineMilliseconds = 0;
  let isDisposed = false;

  return {
    name: `tfjs:${kind}`,
    fingerprint: `tfjs ${device.description}`,
    device: kind,
    ...('chosen' in opened && { chosen: opened.chosen }),
    get statistics() {
      const { bytes, peakBytes, pieces } = device;
      const resident = { uploads: residents.uploads, bytes: residents.bytes };
      return { compilations: 0, evaluations, engineMilliseconds, resident, device: { bytes, peakBytes, pieces } };
    },
    async evaluate(tensors, { release = [] } = {}) {
      if (isDisposed) throw new LowbitError('BACKEND_DISPOSED', `tfjs:${kind}: was used after dispose(); create another one`);
      const pending = [...new Set(tensors.filter((t) => !t.isLeaf))];
      const results = new Map<Tensor, Tensor>();
      if (pending.length > 0) {
        evaluations++;
        const structure = structureOf(pending);
        const fetched = await fetchLeaves(structure, residents);
        const start = performance.now();
        // Nothing else runs between here and the last kernel: evaluations that wait for their leaves do not see half of this one.
        const values = await watched(device, () => execute(structure, fetched, { device, residents, constants }));
        engineMilliseconds += performance.now() - start;
        pending.forEach((t, i) => {
          results.set(t, residents.adopt(values[i], t));
        });
      }
      for (const leaf of release) residents.release(leaf);
      constants.trim();
      await residents.trim();
      // Leaves that were collected leave the device when the event loop turns, and a loop of evaluations would not let it.
      await setImmediate();
      device.settle();
      return tensors.map((t) => results.get(t) ?? t) as never;
    },
    async dispose() {
      if (isDisposed) return;
      isDisposed = true;
      await residents.clear();
      constants.clear();
      await device.close();
    },
  };
}

/** What `run` gives, once the device has found nothing wrong with its kernels. */
async function watched(device: Device, run: () => Value[]): Promise<Value[]> {
  const faults = device.watch();
  let values: Value[] = [];
  try {
    values = run();
  } catch (error) {
    await faults().catch(() => undefined);
    throw error;
  }
  try {
    await faults();
  } catch (error) {
    for (const value of values) device.free(value);
    throw error;
  }
  return values;
}

/** Elements of the leaves that are not on the device; those that are fetched anew each time among them. */
async function fetchLeaves({ leaves }: Structure, residents: Residents): Promise<Map<number, TypedArray>> {
  const fetched = new Map<number, TypedArray>();
  for (const [number, leaf] of leaves) {
    if (!residents.has(leaf) && !isInMemory(leaf)) fetched.set(number, await read(leaf));
  }
  return fetched;
}

function isInMemory({ source }: Tensor): boolean {
  return source.kind === 'leaf' && source.data !== undefined;
}

interface Engine {
  readonly device: Device;
  readonly residents: Residents;
  readonly constants: Constants;
}

/** The values of the roots, which become the caller's. */
function execute(structure: Structure, fetched: ReadonlyMap<number, TypedArray>, { device, residents, constants }: Engine): Value[] {
  const { leaves, nodes, roots } = structure;
  const dead = lastUses(structure);
  /** Values of this evaluation; those of resident leaves are not among them. */
  const own = new Map<number, Value>();
  const valueOf = (number: number): Value => {
    const made = own.get(number);
    if (made) return made;
    const leaf = leaves.get(number) as Tensor;
    const data = fetched.get(number);
    if (!data) return residents.acquire(leaf);
    const value = device.upload(data, leaf.shape, deviceTypes[leaf.dtype]);
    own.set(number, value);
    return value;
  };
  const free = (number: number): void => {
    const value = own.get(number);
    if (value) device.free(value);
    own.delete(number);
  };
  try {
    for (const [number, { tensor, inputs }] of nodes) {
      own.set(number, compute(device, constants, tensor, inputs.map(valueOf)));
      dead.get(number)?.forEach(free);
    }
    // Two results may be one value, or a leaf's.
    return roots.map((number) => device.alias(valueOf(number)));
  } finally {
    for (const number of [...own.keys()]) free(number);
  }
}

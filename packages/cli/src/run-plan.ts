// What a run will take, checked against what there is: before any weight is read, by `plan` and by `quantize` alike.
import { existsSync } from 'node:fs';
import { stat, statfs } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { dirname } from 'node:path';
import { type Backend, LowbitError, type Model, type Recipe } from '@lowbit/core';
import { directoryBytes } from '@lowbit/formats';
import {
  type EngineRates,
  estimateRun,
  measureRates,
  type Propagation,
  type StepEstimate,
  secondsOf,
  type WindowCounts,
} from '@lowbit/pipeline';
import { formatDuration } from './progress.js';

export interface PlanRequest {
  readonly model: Model;
  /** Weights that are to be fetched into a cache. */
  readonly absent?: { readonly bytes: number; readonly cache: string } | undefined;
  readonly recipe: Recipe;
  readonly backend: Backend;
  /** Undefined when the recipe reads no data. */
  readonly calibration: WindowCounts | undefined;
  readonly task?: WindowCounts | undefined;
  readonly propagate: Propagation;
  /** Whether finished blocks are kept until the run is done. */
  readonly hasStore: boolean;
  /** Directories of the checkpoint and of the store, which need not be there yet; undefined where nobody says which. */
  readonly out: string | undefined;
  readonly store: string | undefined;
  /** Bytes of activations that stay in memory; undefined for no limit. */
  readonly memory: number | undefined;
}

export interface RunPlan {
  readonly steps: readonly (StepEstimate & { readonly seconds: number })[];
  readonly seconds: number;
  readonly rates: EngineRates;
  readonly memory: {
    /** Of this process as it is, and at the peak of the run. */
    readonly processBytes: number;
    readonly peakBytes: number;
    /** What the process may use of the machine, or of the container that it is in. */
    readonly availableBytes: number;
  };
  readonly disk: {
    readonly outputBytes: number;
    readonly storeBytes: number;
    /** Where the checkpoint goes; undefined where nobody says where. */
    readonly freeBytes: number | undefined;
  };
  /** What may go wrong: sentences. */
  readonly warnings: readonly string[];
}

/** Windows that `calibrationText` computes on at once: the largest divisor of their number up to this. */
const BATCH = 8;

/** Compiled programs, and what the runtime has not collected yet: what small runs took beside everything that is counted. */
const RUNTIME_BYTES = 128 * 2 ** 20;

/** Estimates of memory were off by up to this factor where they were measured (docs/plan.md). */
const MEMORY_DOUBT = 2;

/** What there is to run on. */
export interface Machine {
  /** Bytes that this process may use, those that it has included; and bytes of the container, where there is one, or else of the machine. */
  memory(): { readonly available: number; readonly total: number };
  /** Free bytes where a directory is or would be, and what tells its disk from others. */
  disk(directory: string): Promise<{ readonly id: string; readonly free: number }>;
}

const thisMachine: Machine = {
  memory() {
    const limit = process.constrainedMemory();
    const total = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
    return { available: Math.min(total, process.availableMemory() + process.memoryUsage().rss), total };
  },
  async disk(directory) {
    const existing = await nearestExisting(directory);
    const [{ dev }, { bavail, bsize }] = await Promise.all([stat(existing), statfs(existing)]);
    return { id: String(dev), free: bavail * bsize };
  },
};

/**
 * @throws what `checkRecipe` throws; DISK_SPACE when checkpoint and store do not fit; MEMORY_SHORT when the run takes more than the machine has even if
 * the estimate is far too high.
 */
export async function planRun(request: PlanRequest, machine = thisMachine): Promise<RunPlan> {
  const { model, absent, recipe, backend, calibration, task, propagate, hasStore, out, store, memory = Number.POSITIVE_INFINITY } = request;
  const estimate = estimateRun({
    model,
    recipe,
    calibration: calibration && { ...calibration, batch: divisorUpTo(calibration.windows, BATCH) },
    task,
    propagate,
    hasStore,
    memory,
  });
  const { outputBytes, storeBytes } = estimate;
  const places: [string, number][] = [];
  if (out !== undefined) places.push([out, outputBytes]);
  // What is in the store already is gone on with, or makes room for what comes in its place.
  if (store !== undefined) places.push([store, Math.max(0, storeBytes - (await storedBytes(store)))]);
  if (absent !== undefined) places.push([absent.cache, absent.bytes]);
  const freeBytes = await checkDisks(machine, places);
  const rates = await measureRates(backend);
  const steps = estimate.steps.map((step) => ({ ...step, seconds: secondsOf(step.cost, step.evaluations, rates) }));
  const processBytes = process.memoryUsage().rss;
  const peakBytes = processBytes + RUNTIME_BYTES + estimate.heldBytes + Math.max(...steps.map(({ cost }) => cost.bytes));
  const { available: availableBytes, total } = machine.memory();
  return {
    steps,
    seconds: steps.reduce((total, step) => total + step.seconds, 0),
    rates,
    memory: { processBytes, peakBytes, availableBytes },
    disk: { outputBytes, storeBytes, freeBytes: out === undefined ? undefined : freeBytes },
    warnings: checkMemory(peakBytes, availableBytes, total),
  };
}

/** Bytes below a directory that need not be there. */
async function storedBytes(directory: string): Promise<number> {
  return existsSync(directory) ? directoryBytes(directory) : 0;
}

function divisorUpTo(count: number, limit: number): number {
  let divisor = Math.min(count, limit);
  while (count % divisor !== 0) divisor--;
  return divisor;
}

function checkMemory(peakBytes: number, availableBytes: number, total: number): string[] {
  if (peakBytes <= availableBytes) return [];
  const remedy = 'fewer --windows, a shorter --window, or a smaller --memory take less';
  if (peakBytes / MEMORY_DOUBT > total) {
    throw new LowbitError(
      'MEMORY_SHORT',
      `the run takes about ${formatBytes(peakBytes)} of memory, and there are ${formatBytes(total)} in all; ${remedy}`,
    );
  }
  return [`the run takes about ${formatBytes(peakBytes)} of memory, and ${formatBytes(availableBytes)} are available; ${remedy}`];
}

/** @returns free bytes at the first place, if there is one. @throws DISK_SPACE; places on one disk share what is free there. */
async function checkDisks(machine: Machine, places: readonly (readonly [path: string, bytes: number])[]): Promise<number | undefined> {
  const disks = new Map<string, { readonly free: number; needed: number; readonly paths: string[] }>();
  for (const [path, bytes] of places) {
    const { id, free } = await machine.disk(path);
    const disk = disks.get(id) ?? { free, needed: 0, paths: [] };
    disk.needed += bytes;
    disk.paths.push(path);
    disks.set(id, disk);
  }
  for (const { free, needed, paths } of disks.values()) {
    if (needed <= free) continue;
    const figures = `about ${formatBytes(needed)} are needed and ${formatBytes(free)} are free`;
    throw new LowbitError('DISK_SPACE', `${paths.join(' and ')}: ${figures}; make room, or choose a place on another disk`);
  }
  return [...disks.values()].at(0)?.free;
}

/** A directory, or the nearest one above it that is there. */
async function nearestExisting(path: string): Promise<string> {
  try {
    await stat(path);
    return path;
  } catch (error) {
    const parent = dirname(path);
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || parent === path) {
      throw new LowbitError('OUTPUT_DIRECTORY', `${path}: ${(error as Error).message}; choose another directory`, { cause: error });
    }
    return nearestExisting(parent);
  }
}

/** '3 min 20 s, 1.2 GiB of memory, 310 MiB on disk': about, each of them. */
export function summarizePlan({ seconds, memory, disk }: RunPlan): string {
  const onDisk = disk.outputBytes + disk.storeBytes;
  return `about ${formatDuration(Math.max(1, seconds))}, ${formatBytes(memory.peakBytes)} of memory at the peak, ${formatBytes(onDisk)} on disk`;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** '340 MiB', '1.2 GiB'. */
export function formatBytes(bytes: number): string {
  const unit = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  const value = bytes / 2 ** (10 * unit);
  return `${value.toFixed(value < 10 && unit > 0 ? 1 : 0)} ${UNITS[unit]}`;
}

// lowbit devices: what this machine can compute on, how fast, and what the others need.
import { backendName, deviceNames, type MatmulRate, openTaskProcess, type TaskProcess } from '@lowbit/bench';
import { LowbitError, throwIfAborted } from '@lowbit/core';
import type { Command } from 'commander';
import { number } from '../arguments.js';
import type { CommandContext } from '../context.js';
import { createReporter } from '../reporter.js';
import { taskModule } from '../task-module.js';

/** What is sent to the process that tries a backend. */
export interface DeviceWork {
  readonly backend: string;
  /** To measure its rate for. */
  readonly seconds?: number | undefined;
}

/** What it found. */
export interface DeviceFound {
  readonly name: string;
  readonly fingerprint: string;
  readonly chosen?: string | undefined;
  readonly rate?: MatmulRate | undefined;
}

/** A line of the output, as --json writes it. */
type DeviceRecord =
  | { readonly backend: string; readonly gflops: number; readonly side: number; readonly fingerprint: string }
  | { readonly backend: string; readonly code: string; readonly reason: string }
  | { readonly backend: string; readonly takes: string; readonly reason: string | undefined };

const AUTO = 'auto';

interface DevicesArguments {
  readonly seconds: number;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export function addDevicesCommand(program: Command, context: CommandContext): void {
  program
    .command('devices')
    .description('list what this machine offers to compute on, how fast each multiplies matrices, and what the others need')
    .argument('[names...]', 'only these, as --backend takes them')
    .option('--seconds <number>', 'to measure each for, about', number(0), 1)
    .option('--json', 'one JSON object a device on stdout')
    .option('--quiet', 'no progress, only results, warnings and errors')
    .action((names: readonly string[], options: DevicesArguments) => runDevices(names, options, context));
}

async function runDevices(names: readonly string[], { seconds, json, quiet }: DevicesArguments, context: CommandContext): Promise<void> {
  const { terminal, directory, signal } = context;
  const wanted = [...new Set(names.map(backendName))];
  const reporter = createReporter(terminal, { isQuiet: quiet === true });
  context.startWork();
  // A driver that crashes ends that process and not this one; the next device gets another.
  const process = openTaskProcess<DeviceWork, DeviceFound>(taskModule('device-process', [], directory));
  const listed = wanted.length > 0 ? wanted : [...deviceNames, AUTO];
  const width = Math.max(...listed.map((backend) => backend.length));
  /** Engines whose package is missing: one line says it for all of their devices. */
  const missing = new Set<string>();
  try {
    for (const [i, backend] of listed.entries()) {
      if (missing.has(backend.split(':')[0])) continue;
      reporter.progress('trying', backend, i, listed.length);
      const record = await tryBackend(process, backend.endsWith(AUTO) ? { backend } : { backend, seconds }, signal);
      if ('code' in record && record.code === 'BACKEND_PACKAGE') missing.add(record.backend);
      reporter.end();
      terminal.out(json ? `${JSON.stringify(record)}\n` : lineOf(record, width));
    }
  } finally {
    process.close();
    reporter.end();
  }
}

async function tryBackend(process: TaskProcess<DeviceWork, DeviceFound>, work: DeviceWork, signal: AbortSignal): Promise<DeviceRecord> {
  const { backend } = work;
  try {
    const { name, fingerprint, chosen, rate } = await process.run({ key: backend, label: backend, work }, signal);
    return rate ? { backend: name, gflops: rate.flops / 1e9, side: rate.side, fingerprint } : { backend, takes: name, reason: chosen };
  } catch (error) {
    throwIfAborted(signal);
    if (!(error instanceof LowbitError)) throw error;
    const { code, message } = error;
    return { backend: code === 'BACKEND_PACKAGE' ? backend.split(':')[0] : backend, code, reason: message.slice(`${code}: `.length) };
  }
}

function lineOf(record: DeviceRecord, width: number): string {
  const name = record.backend.padEnd(width);
  if ('takes' in record) return `${name}  ${record.takes}${record.reason === undefined ? '' : `: ${record.reason}`}\n`;
  if ('code' in record) return `${name}  missing: ${record.reason}\n`;
  const rate = `${record.gflops.toPrecision(3)} GFLOP/s`.padEnd(14);
  return `${name}  ${rate} ${record.side}-cube matmul, ${record.fingerprint}\n`;
}

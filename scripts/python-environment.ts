// Python environments of the oracles, each made once and kept in the system's folder for temporary files.
import { spawn } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What all oracles run models with. */
const TRANSFORMERS = ['torch==2.13.0', 'transformers==5.23.0', 'numpy'];

/** Runs a program with its output shown. Throws when it does not end with 0. */
export function runProgram(program: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...environment } });
    child.once('error', (cause) =>
      reject(new Error(`${program} did not start; install Python 3.10 or newer with venv, or name one in PYTHON`, { cause })),
    );
    child.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`${program} ${args.join(' ')} ended with ${code}`))));
  });
}

/** Path of a Python with transformers and `more` (as pip takes it), under a name of its own; installs them at the first call. */
export async function preparePython(name: string, more: readonly string[], say: (line: string) => void): Promise<string> {
  const directory = join(tmpdir(), `lowbit-oracle-${name}`);
  const marker = join(directory, 'installed.txt');
  const python = process.platform === 'win32' ? join(directory, 'venv', 'Scripts', 'python.exe') : join(directory, 'venv', 'bin', 'python');
  const requirements = [...TRANSFORMERS, ...more];
  const wanted = requirements.join('\n');
  if ((await readFile(marker, 'utf8').catch(() => '')) === wanted) return python;

  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  await runProgram(process.env.PYTHON ?? 'python3', ['-m', 'venv', join(directory, 'venv')]);
  const pip = ['-m', 'pip', 'install', '--quiet', '--no-cache-dir', '--disable-pip-version-check'];
  const libraries = 'on Linux torch brings CUDA libraries: 2.6 GB to fetch, 5 GB on disk';
  say(`installing ${requirements.join(', ')} from PyPI into ${directory}; ${libraries}`);
  await runProgram(python, [...pip, ...requirements]);
  await writeFile(marker, wanted);
  return python;
}

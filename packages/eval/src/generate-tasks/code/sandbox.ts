// Runs programs that a model has written: each in new Linux namespaces, shut in by guard.py, killed with all it has started.
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access, mkdtemp, readFile, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { LowbitError, throwIfAborted } from '@lowbit/core';
import { type Collected, collect } from './collect.js';
import { type CodeLimits, checkLimits, codeLimits } from './limits.js';
import { sandboxRefused, type Verdict, verdictOf } from './verdict.js';

export interface CodeSandbox {
  /** Interpreter, limits and isolation: for a score's protocol. */
  readonly protocol: Readonly<Record<string, unknown>>;
  run(program: string, signal?: AbortSignal): Promise<Verdict>;
}

/** Time for an interpreter to start and be shut in, on a busy machine. */
const START_SECONDS = 60;
/** A verdict is one line. */
const STATUS_BYTES = 64 * 1024;
const NAMESPACES = ['--user', '--map-root-user', '--mount', '--net', '--ipc', '--uts', '--cgroup', '--pid', '--fork', '--kill-child'];
const GUARD = new URL('../../../src/generate-tasks/code/guard.py', import.meta.url);

/** What a program must not be able to do, tried before any other is let in. */
const ATTEMPTS = `
import _thread, errno, os, socket
def refused(attempt, *numbers):
    try:
        attempt()
    except OSError as error:
        return not numbers or error.errno in numbers
    return False
def threads():
    try:
        _thread.start_new_thread(int, ())
    except RuntimeError:
        return False
    return True
assert not os.environ, 'the environment is seen'
# The list of system calls says EPERM before anything is looked up: any other error would be of this one attempt.
assert refused(lambda: socket.socket(), errno.EPERM), 'a socket opens'
assert refused(lambda: os.fork() or os._exit(0), errno.EPERM), 'a process starts'
assert refused(lambda: os.execv('/nothing', ['nothing']), errno.EPERM), 'a program starts'
assert not threads(), 'a thread starts'
assert refused(lambda: open('/outside', 'w')), 'a file is written'
assert refused(lambda: os.listdir('/proc')) and refused(lambda: os.listdir('/etc')), 'files of the host are seen'
assert all(refused(lambda: os.fstat(one), errno.EBADF) for one in range(4, 64)), 'files of the host are open'
open('inside', 'w').close()
`;

interface Programs {
  readonly timeout: string;
  readonly unshare: string;
  readonly python: string;
  readonly version: string;
  readonly guard: string;
}

/**
 * A sandbox that has been seen to hold on this machine. A program gets Python's standard library, an empty environment and one small
 * directory in memory; no network, no other file, process, thread or program; and it ends with its limits.
 * @throws CODE_LIMITS, SANDBOX_PLATFORM where there is none, PYTHON_MISSING, SANDBOX_REFUSED when the kernel does not let it be built.
 */
export async function openCodeSandbox(limits: CodeLimits = codeLimits, path = process.env.PATH ?? ''): Promise<CodeSandbox> {
  checkLimits(limits);
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new LowbitError(
      'SANDBOX_PLATFORM',
      `code sandbox: programs can be shut in on Linux and x86-64 alone, this is ${process.platform} and ${process.arch}; judge generated code in a virtual machine of that kind`,
    );
  }
  const programs = await findPrograms(path);
  // A busy machine is no reason to refuse.
  const trial = await runProgram(programs, { ...limits, seconds: START_SECONDS }, ATTEMPTS, undefined);
  if (!trial.isPassed) throw sandboxRefused(`a trial program ended with ${trial.reason}: ${trial.detail}`);
  const isolation = 'namespaces, own root, seccomp list, no capabilities';
  return {
    protocol: { python: programs.version, libraries: 'standard, on the path', ...limits, isolation },
    run: (program, signal) => runProgram(programs, limits, program, signal),
  };
}

async function findPrograms(path: string): Promise<Programs> {
  const python = await onPath('python3', path);
  if (python === undefined) {
    throw new LowbitError('PYTHON_MISSING', 'code sandbox: python3 is not on the PATH; install Python 3, which runs the programs');
  }
  const [timeout, unshare] = [await onPath('timeout', path), await onPath('unshare', path)];
  if (timeout === undefined || unshare === undefined) {
    const missing = timeout === undefined ? 'timeout (coreutils)' : 'unshare (util-linux)';
    throw new LowbitError('SANDBOX_REFUSED', `code sandbox: ${missing} is not on the PATH; install it, programs are not run without`);
  }
  // What is on the PATH may be a script that chooses an interpreter, and needs an environment for it.
  const describe = 'import sys; print(sys.executable); print("%d.%d.%d" % sys.version_info[:3])';
  const { stdout } = await promisify(execFile)(python, ['-I', '-S', '-c', describe]).catch((cause: Error) => {
    throw new LowbitError('PYTHON_MISSING', `code sandbox: ${python} does not run (${cause.message.trim()}); repair Python 3`, { cause });
  });
  const [executable, version] = stdout.trim().split('\n');
  return { timeout, unshare, python: executable, version, guard: await readFile(GUARD, 'utf8') };
}

async function onPath(name: string, path: string): Promise<string | undefined> {
  for (const directory of path.split(delimiter)) {
    if (directory === '') continue;
    const file = join(directory, name);
    const isThere = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return file;
  }
  return undefined;
}

async function runProgram(programs: Programs, limits: CodeLimits, program: string, signal: AbortSignal | undefined): Promise<Verdict> {
  throwIfAborted(signal);
  // Only a place to mount on, in the program's own view of the file system: it stays empty.
  const root = await mkdtemp(join(tmpdir(), 'lowbit-code-'));
  try {
    const key = randomBytes(16).toString('hex');
    const ended = await spawnGuard(programs, limits, `${JSON.stringify({ ...limits, root, key })}\n${program}`, signal);
    throwIfAborted(signal);
    return verdictOf(ended, key, limits, START_SECONDS);
  } finally {
    await rmdir(root);
  }
}

function spawnGuard(
  { timeout, unshare, python, guard }: Programs,
  { seconds, outputKiB }: CodeLimits,
  input: string,
  signal: AbortSignal | undefined,
): Promise<Collected> {
  // The outermost process ends all others should this one die without a word.
  const last = String(START_SECONDS + Math.ceil(seconds) + 5);
  const interpreter = [python, '-I', '-S', '-B', '-X', 'utf8', '-c', guard];
  const child = spawn(timeout, ['--signal=KILL', last, unshare, ...NAMESPACES, '--', ...interpreter], {
    cwd: '/',
    env: {},
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    detached: true,
  });
  return collect(child, {
    input,
    signal,
    startSeconds: START_SECONDS,
    seconds,
    outputBytes: outputKiB * 1024,
    statusBytes: STATUS_BYTES,
  });
}

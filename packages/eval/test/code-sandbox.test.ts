// Programs that do what they must not: each ends as a failure with its reason, and nothing of it stays or gets out.
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { LowbitError } from '@lowbit/core';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type CodeSandbox, openCodeSandbox, type Verdict } from '../src/index.js';

// More time than any program here needs, on a busy machine too; those that take all of it get less.
const limits = { seconds: 60, memoryMiB: 256, diskMiB: 4, outputKiB: 64 };

const opened = await openCodeSandbox(limits).catch((error: unknown) => {
  if (error instanceof LowbitError) return error;
  throw error;
});
const why = opened instanceof LowbitError ? ` (skipped: ${opened.message})` : '';

/** Ids of all processes that this one has started, and they. */
async function descendants(): Promise<number[]> {
  const parents = new Map<number, number>();
  for (const name of await readdir('/proc')) {
    const stat = /^\d+$/.test(name) ? await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '') : '';
    // The command's name may hold anything, and ends with the last parenthesis.
    const parent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1];
    if (parent !== undefined) parents.set(Number(name), Number(parent));
  }
  const isOurs = (id: number | undefined): boolean => id !== undefined && (id === process.pid || isOurs(parents.get(id)));
  return [...parents.keys()].filter((id) => id !== process.pid && isOurs(id)).sort((a, b) => a - b);
}

// An interpreter has a minute to start and another to run, several times in one test.
const patient = { timeout: 600_000 };

describe.skipIf(why !== '')(`code sandbox${why}`, patient, () => {
  const sandbox = opened as CodeSandbox;
  let directory: string;
  let server: Server;
  let connections = 0;
  let before: number[];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'sandbox-test-'));
    await writeFile(join(directory, 'secret'), 'do not read');
    await mkdir(join(directory, 'temporary'));
    vi.stubEnv('TMPDIR', join(directory, 'temporary'));
    vi.stubEnv('LOWBIT_SECRET', 'do not read');
    server = createServer((socket) => {
      connections++;
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    before = await descendants();
  });

  afterEach(async () => {
    expect(await descendants()).toEqual(before);
    expect(await readdir(join(directory, 'temporary'))).toEqual([]);
    expect((await readdir(directory)).sort()).toEqual(['secret', 'temporary']);
    expect(connections).toBe(0);
  });

  afterAll(async () => {
    vi.unstubAllEnvs();
    await new Promise((resolve) => server.close(resolve));
    await rm(directory, { recursive: true });
  });

  const ends = async (program: string): Promise<Verdict> => sandbox.run(program);

  it('passes a program that comes to its end, with the standard library and files of its own', async () => {
    const program = `
import hashlib, math, re, threading
assert hashlib.md5(b'a').hexdigest() == '0cc175b9c0f1b6a831c399e269772661'
with threading.Lock():
    assert math.factorial(5) == 120 and re.sub('a', 'é', 'banana') == 'bénéné'
with open('own.txt', 'w') as file: file.write('mine')
assert open('own.txt').read() == 'mine'
print('é' * 1000)`;
    expect(await ends(program)).toEqual({ isPassed: true, reason: 'passed', detail: '' });
  });

  it('starts each program anew: files of the one before are gone', async () => {
    await ends("open('left.txt', 'w').write('here')");
    expect(await ends("import os\nassert os.listdir('.') == []")).toMatchObject({ isPassed: true });
  });

  it.each([
    ['a failed assertion', "assert 1 + 1 == 3, 'no'", 'failed', 'AssertionError: no'],
    ['a syntax error', 'def (', 'failed', /^SyntaxError/],
    ['endless recursion', 'def f(): f()\nf()', 'failed', /^RecursionError/],
    ['sys.exit before the tests', 'import sys\nsys.exit(0)', 'failed', 'SystemExit: 0'],
    ['leaving at once', 'import os\nos._exit(0)', 'exited', 'ended with status 0 before its tests did'],
    ['a crash of the interpreter', 'import ctypes\nctypes.string_at(0)', 'exited', /SIGSEGV|139/],
    [
      'a verdict of its own',
      'import os\nos.write(3, b\'{"key": "", "outcome": "passed"}\')\nos._exit(0)',
      'exited',
      'ended with status 0 before its tests did',
    ],
  ])('%s fails', async (_what, program, reason, detail) => {
    const verdict = await ends(program);
    expect(verdict).toMatchObject({ isPassed: false, reason });
    expect(verdict.detail).toMatch(detail);
  });

  it.each([
    ['computes forever', 'while True: pass', 'timeout', 'ran longer than 1 s'],
    ['sleeps and catches what it can', 'import time\nwhile True:\n  try: time.sleep(100)\n  except BaseException: pass', 'timeout', /1 s/],
    ['allocates without bound', "x = []\nwhile True: x.append('a' * 10**8)", 'memory', 'needed more than 256 MiB'],
    ['allocates too much at once', 'x = bytearray(10**10)', 'memory', 'needed more than 256 MiB'],
    ['maps memory without bound', 'import mmap\nm = []\nwhile True: m.append(mmap.mmap(-1, 10**8))', 'failed', /Cannot allocate memory/],
    ['makes memory files', "import os\nos.memfd_create('m')", 'failed', /^PermissionError/],
    ['prints without bound', "while True: print('x' * 1000)", 'output', 'printed more than 64 KiB'],
    ['writes a large file', "f = open('x', 'wb')\nwhile True: f.write(bytes(10**6))", 'failed', /File too large|No space left/],
    ['writes many files', "for i in range(100): open(str(i), 'wb').write(bytes(10**6))", 'failed', /No space left/],
  ])('one that %s is stopped', async (_what, program, reason, detail) => {
    const verdict = await (reason === 'timeout' ? (await openCodeSandbox({ ...limits, seconds: 1 })).run(program) : ends(program));
    expect(verdict).toMatchObject({ isPassed: false, reason });
    expect(verdict.detail).toMatch(detail);
  });

  it.each([
    ['fork', 'import os\nwhile True: os.fork()'],
    ['start a program', "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'true'])"],
    ['start processes', 'import multiprocessing\nmultiprocessing.Process(target=print).start()'],
    ['replace itself', "import os\nos.execv('/usr/bin/env', ['env'])"],
    ['signal others', 'import os, signal\nos.kill(-1, signal.SIGKILL)'],
    ['open a socket', 'import socket\nsocket.socket()'],
    ['open a local socket', 'import socket\nsocket.socketpair()'],
  ])('one that tries to %s is refused', async (_what, program) => {
    expect(await ends(program)).toMatchObject({ isPassed: false, reason: 'failed', detail: expect.stringMatching(/^PermissionError/) });
  });

  it.each([
    ['a thread', ''],
    // Of which thousands would fit into the address space.
    ['a small thread', 'threading.stack_size(2**18)\n'],
  ])('%s is refused, the first one', async (_what, before) => {
    const verdict = await ends(`import threading\n${before}threading.Thread(target=print).start()`);
    expect(verdict).toMatchObject({ isPassed: false, reason: 'failed', detail: expect.stringMatching(/^RuntimeError: .*thread/) });
  });

  it('reaches no server, by name or by number', async () => {
    const { port } = server.address() as { port: number };
    for (const host of ['127.0.0.1', 'localhost']) {
      const verdict = await ends(`import socket\nsocket.create_connection(('${host}', ${port}))`);
      expect(verdict).toMatchObject({ isPassed: false, reason: 'failed' });
    }
  });

  it.each([
    ['mount', "libc.mount(b'none', b'/work', b'tmpfs', 0, None)"],
    ['make namespaces', 'libc.unshare(0x10000000)'],
    ['change its root', "libc.chroot(b'/work')"],
    ['trace', 'libc.ptrace(0, 0, 0, 0)'],
    ['lift the limits', 'libc.setrlimit(9, (ctypes.c_ulong * 2)(2**60, 2**60))'],
    ['make keys', "libc.syscall(248, b'user', b'k', b'v', 1, -1)"],
    ['open a ring of calls', 'libc.syscall(425, 8, ctypes.create_string_buffer(120))'],
    ['use numbers of another interface', 'libc.syscall(0x40000000 | 41, 2, 1, 0)'],
  ])('one that tries to %s through the C library is refused', async (_what, call) => {
    const program = `import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nassert ${call} == -1\nassert ctypes.get_errno() == 1, ctypes.get_errno()`;
    expect(await ends(program)).toEqual({ isPassed: true, reason: 'passed', detail: '' });
  });

  it('has no file that a library of the caller left open for whatever is started', async () => {
    const path = join(directory, 'temporary', 'bin');
    await mkdir(path);
    try {
      // The program that makes namespaces is started with two of them.
      const unshare = `#!/bin/sh\nexec 4</etc/passwd 9</etc/passwd\nexec /usr/bin/unshare "$@"\n`;
      await writeFile(join(path, 'unshare'), unshare);
      await chmod(join(path, 'unshare'), 0o755);
      const leaky = await openCodeSandbox(limits, [path, process.env.PATH].join(delimiter));
      const program = `import os\nfor one in (4, 9):\n    try:\n        os.read(one, 1)\n    except OSError:\n        continue\n    raise ValueError(one)`;
      expect(await leaky.run(program)).toEqual({ isPassed: true, reason: 'passed', detail: '' });
    } finally {
      await rm(path, { recursive: true });
    }
  });

  it('sees nothing of the environment, of other processes, of files', async () => {
    const program = `
import ctypes, os, sys
assert dict(os.environ) == {}
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
assert libc.getenv(b'LOWBIT_SECRET') is None
assert os.getpid() == 1
shown = ['/usr/lib', '/usr/lib64', '/lib', '/lib64', '/work', sys.base_prefix + '/lib', sys.base_exec_prefix + '/lib']
def look(path):
    if path in shown:
        return
    assert any(one.startswith(path.rstrip('/') + '/') for one in shown), path
    for name in os.listdir(path):
        look(os.path.join(path, name))
look('/')
for path in ['/proc', '/sys', '/dev', '/etc', '/run', '${directory}', '${directory}/secret']:
    assert not os.path.exists(path), path
assert os.getcwd() == '/work' and os.listdir('.') == []
def is_open(descriptor):
    try:
        os.fstat(descriptor)
        return True
    except OSError:
        return False
assert [one for one in range(64) if is_open(one)] == [0, 1, 2, 3]`;
    expect(await ends(program)).toEqual({ isPassed: true, reason: 'passed', detail: '' });
  });

  it.each([
    ['the directory of a test', () => join(directory, 'written')],
    ['the root', () => '/written'],
    ['a library', () => '/usr/lib/written'],
    ['the directory above', () => '../written'],
  ])('writes nothing to %s', async (_what, path) => {
    const verdict = await ends(`open('${path()}', 'w').write('x')`);
    expect(verdict).toMatchObject({
      isPassed: false,
      reason: 'failed',
      detail: expect.stringMatching(/No such file|Read-only file system/),
    });
  });

  it('ends at once when it is cancelled', async () => {
    const cancel = new AbortController();
    const running = sandbox.run('import time\ntime.sleep(100)', cancel.signal);
    setTimeout(() => cancel.abort(), 500);
    await expect(running).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(sandbox.run('', cancel.signal)).rejects.toMatchObject({ code: 'ABORTED' });
  });

  it('counts in parts of a second', async () => {
    const hasty = await openCodeSandbox({ ...limits, seconds: 0.5 });
    expect(await hasty.run('while True: pass')).toEqual({ isPassed: false, reason: 'timeout', detail: 'ran longer than 0.5 s' });
  });

  it('says what it isolates by', () => {
    expect(sandbox.protocol).toMatchObject({
      ...limits,
      libraries: 'standard, on the path',
      python: expect.stringMatching(/^3\.\d+\.\d+$/),
    });
  });

  // Each gap is made in a wall that stands: what is tried before a program is let in must find it.
  it.each([
    ['a socket opens', 's/"read": 0,/"read": 0, "socket": 41,/'],
    ['a process starts', 's/"read": 0,/"read": 0, "clone": 56,/'],
    ['a program starts', 's/"read": 0,/"read": 0, "execve": 59,/'],
    ['a file is written', 's/make_read_only(root, 0)/pass/'],
    ['files of the host are seen', 's:for path in ..:&/etc", ":'],
    ['the environment is seen', 's/os.environ.clear()/os.environ["A"] = "b"/'],
    ['files of the host are open', 's:os.environ.clear():&; os.dup2(os.open("/etc/passwd", 0), 40):; s/STATUS + 1/41/'],
  ])('is not opened where %s', async (what, gap) => {
    const path = join(directory, 'temporary', 'bin');
    await mkdir(path);
    try {
      // It says that it is the interpreter itself, and then widens the program that shuts in, which is its last argument.
      const python = `#!/bin/sh
PATH='${process.env.PATH}'
for last; do :; done
case "$last" in
  *version_info*) echo "$0"; python3 -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])';;
  *) exec python3 -I -S -B -X utf8 -c "$(printf '%s' "$last" | sed '${gap}')";;
esac
`;
      await writeFile(join(path, 'python3'), python);
      await chmod(join(path, 'python3'), 0o755);
      await expect(openCodeSandbox(limits, [path, process.env.PATH].join(delimiter))).rejects.toMatchObject({
        code: 'SANDBOX_REFUSED',
        message: expect.stringContaining(what) as string,
      });
    } finally {
      await rm(path, { recursive: true });
    }
  });

  describe('on another machine', () => {
    const pathWith = async (programs: Readonly<Record<string, string>>): Promise<string> => {
      const path = join(directory, 'temporary', 'bin');
      await mkdir(path);
      for (const [name, content] of Object.entries(programs)) {
        if (content.startsWith('/')) await symlink(content, join(path, name));
        else {
          await writeFile(join(path, name), content);
          await chmod(join(path, name), 0o755);
        }
      }
      return ['', path].join(delimiter);
    };
    afterEach(() => rm(join(directory, 'temporary', 'bin'), { recursive: true }));

    it('says that Python is missing', async () => {
      const path = await pathWith({});
      await expect(openCodeSandbox(limits, path)).rejects.toMatchObject({
        code: 'PYTHON_MISSING',
        message: expect.stringContaining('python3 is not on the PATH; install Python 3'),
      });
    });

    it('says that Python does not run', async () => {
      const path = await pathWith({ python3: '#!/bin/sh\nexit 3\n', timeout: '/usr/bin/timeout', unshare: '/usr/bin/unshare' });
      await expect(openCodeSandbox(limits, path)).rejects.toMatchObject({ code: 'PYTHON_MISSING' });
    });

    it('runs nothing where a program that shuts in is missing', async () => {
      const path = await pathWith({ python3: '#!/bin/sh\nexit 3\n', timeout: '/usr/bin/timeout' });
      await expect(openCodeSandbox(limits, path)).rejects.toMatchObject({
        code: 'SANDBOX_REFUSED',
        message: expect.stringContaining('unshare (util-linux)'),
      });
    });

    it('runs nothing where the kernel makes no namespaces, nor where they are not made', async () => {
      const python = `#!/bin/sh\nPATH='${process.env.PATH}' exec python3 "$@"\n`;
      const forbidding = { unshare: '#!/bin/sh\necho "unshare failed: Operation not permitted" >&2\nexit 1\n' };
      const ignoring = { unshare: '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n' };
      for (const [unshare, said] of [
        [forbidding, 'unshare failed: Operation not permitted'],
        [ignoring, 'not the first process of a namespace'],
      ] as const) {
        const path = await pathWith({ python3: python, timeout: '/usr/bin/timeout', ...unshare });
        const code = 'SANDBOX_REFUSED';
        await expect(openCodeSandbox(limits, path)).rejects.toMatchObject({ code, message: expect.stringContaining(said) });
        await rm(join(directory, 'temporary', 'bin'), { recursive: true });
      }
      await pathWith({});
    });
  });
});

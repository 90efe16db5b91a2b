# Runs one untrusted program in this process, which sandbox.ts has started as the first of new namespaces: of users, mounts, network,
# processes. Here the process shuts itself in: a root of its own with the standard library and one small writable directory, limits,
# no capabilities, and a list of the system calls that are left. Whatever cannot be set up ends it before the program is looked at.
import ctypes
import errno
import json
import math
import os
import platform
import resource
import struct
import sys
import time

STATUS = 3  # file descriptor: "ready", then the verdict
MIB = 1 << 20

# linux/mount.h
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC = 2, 4, 8, 4096, 16384
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
# linux/prctl.h, linux/capability.h
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 22, 24, 38
LINUX_CAPABILITY_VERSION_3 = 0x20080522
# linux/seccomp.h, linux/audit.h, linux/bpf_common.h
SECCOMP_MODE_FILTER = 2
RET_KILL_PROCESS, RET_ERRNO, RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
AUDIT_ARCH_X86_64 = 0xC000003E
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06

# Numbers of x86-64.
PIVOT_ROOT, CAPSET, CLOSE_RANGE, MOUNT_SETATTR = 155, 126, 436, 442
LAST_DESCRIPTOR = 0xFFFFFFFF
# What an interpreter needs: files of its own root, memory, locks, clocks, signals to itself. All else fails with EPERM: sockets,
# new processes, threads and programs, mounts, tracing, other processes, keys, anonymous files that no memory limit counts.
ALLOWED = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10,
    "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "pwrite64": 18, "readv": 19,
    "writev": 20, "access": 21, "pipe": 22, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "dup2": 33,
    "pause": 34, "nanosleep": 35, "getitimer": 36, "alarm": 37, "setitimer": 38, "getpid": 39, "exit": 60, "uname": 63, "fcntl": 72,
    "flock": 73, "fsync": 74, "fdatasync": 75, "truncate": 76, "ftruncate": 77, "getcwd": 79, "chdir": 80, "fchdir": 81, "rename": 82,
    "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "readlink": 89, "chmod": 90, "fchmod": 91,
    "umask": 95, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104,
    "geteuid": 107, "getegid": 108, "getppid": 110, "getpgrp": 111, "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202,
    "sched_getaffinity": 204, "getdents64": 217, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229,
    "clock_nanosleep": 230, "exit_group": 231, "tgkill": 234, "openat": 257, "mkdirat": 258, "newfstatat": 262, "unlinkat": 263,
    "renameat": 264, "readlinkat": 267, "fchmodat": 268, "faccessat": 269, "pselect6": 270, "ppoll": 271, "set_robust_list": 273,
    "utimensat": 280, "dup3": 292, "pipe2": 293, "prlimit64": 302, "getcpu": 309, "renameat2": 316, "getrandom": 318, "membarrier": 324,
    "statx": 332, "rseq": 334, "faccessat2": 439,
}  # fmt: skip

libc = ctypes.CDLL(None, use_errno=True)


def call(function, *arguments):
    """Of a C function that answers 0 when it has worked."""
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{getattr(function, '__name__', 'call')}{arguments[:3]}: {os.strerror(number)}")


def mount(source, target, kind, flags, data=""):
    call(libc.mount, source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags), data.encode())


def make_read_only(path, flags=AT_RECURSIVE):
    attributes = struct.pack("=QQQQ", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0, 0, 0)
    call(libc.syscall, MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, attributes, ctypes.c_size_t(len(attributes)))


def enter_root(root, disk_mib):
    """Leaves the file system of the host for an empty one with the libraries of the system and of Python, read-only, and /work."""
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m,nr_inodes=256")
    shown = []
    for path in ["/usr/lib", "/usr/lib64", "/lib", "/lib64", sys.base_prefix + "/lib", sys.base_exec_prefix + "/lib"]:
        if not os.path.isdir(path) or path in shown:
            continue
        shown.append(path)
        inside = root + path
        os.makedirs(os.path.dirname(inside), exist_ok=True)
        if os.path.islink(path):
            os.symlink(os.readlink(path), inside)
        elif not os.path.isdir(inside):
            os.mkdir(inside)
            mount(path, inside, None, MS_BIND | MS_REC)
            make_read_only(inside)
    os.mkdir(root + "/work")
    mount("tmpfs", root + "/work", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, f"mode=700,size={disk_mib}m,nr_inodes=1024")
    make_read_only(root, 0)
    os.chdir(root)
    # The old root then lies over the new one, and is taken away: pivot_root(2), "pivot_root(".", ".")".
    call(libc.syscall, PIVOT_ROOT, b".", b".")
    call(libc.umount2, b".", MNT_DETACH)
    os.chdir("/work")


def limit(settings):
    seconds = settings["seconds"]
    for kind, value in [
        (resource.RLIMIT_AS, settings["memoryMiB"] * MIB),
        (resource.RLIMIT_CPU, math.ceil(seconds) + 2),  # the caller's clock comes first
        (resource.RLIMIT_FSIZE, settings["diskMiB"] * MIB),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_STACK, 8 * MIB),
        (resource.RLIMIT_CORE, 0),
    ]:
        resource.setrlimit(kind, (value, value))


def give_up_rights():
    call(libc.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(64):
        # EINVAL: beyond the last one that this kernel knows.
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 and ctypes.get_errno() != errno.EINVAL:
            raise OSError(ctypes.get_errno(), "a capability cannot be dropped")
    call(libc.syscall, CAPSET, struct.pack("=Ii", LINUX_CAPABILITY_VERSION_3, 0), bytes(24))
    call(libc.prctl, PR_SET_DUMPABLE, 0, 0, 0, 0)


class FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def filter_system_calls():
    numbers = sorted(ALLOWED.values())
    count = len(numbers)

    def step(code, value, yes=0, no=0):
        return struct.pack("=HBBI", code, yes, no, value)

    # Jumps count the steps between: over the rest of the list and the refusal behind it.
    steps = [
        step(LOAD_WORD, 4),  # seccomp_data.arch
        step(JUMP_EQUAL, AUDIT_ARCH_X86_64, 1, 0),
        step(RETURN, RET_KILL_PROCESS),
        step(LOAD_WORD, 0),  # seccomp_data.nr
        *[step(JUMP_EQUAL, number, count - i) for i, number in enumerate(numbers)],
        step(RETURN, RET_ERRNO | errno.EPERM),
        step(RETURN, RET_ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(steps))
    program = FilterProgram(len(steps), ctypes.addressof(code))
    call(libc.prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)


def message_of(error):
    try:
        return str(error)[:500]
    except BaseException:
        return ""


def run(source):
    """The verdict on a program: it has passed when it comes to its end."""
    try:
        exec(compile(source, "program.py", "exec", dont_inherit=True), {})
    except MemoryError:
        return {"outcome": "memory"}
    except BaseException as error:
        return {"outcome": "failed", "error": type(error).__name__, "message": message_of(error)}
    return {"outcome": "passed"}


def main():
    settings = json.loads(sys.stdin.buffer.readline())
    source = sys.stdin.buffer.read().decode()
    try:
        if platform.machine() != "x86_64" or sys.maxsize < 2**32:
            raise OSError(errno.ENOSYS, "system calls of this processor are not listed")
        if os.getpid() != 1:
            raise OSError(errno.EPERM, "not the first process of a namespace")
        os.environ.clear()
        # A library of the caller may have opened files without saying that other programs are not to have them.
        call(libc.syscall, CLOSE_RANGE, STATUS + 1, ctypes.c_uint(LAST_DESCRIPTOR), 0)
        enter_root(settings["root"], settings["diskMiB"])
        limit(settings)
        give_up_rights()
        filter_system_calls()
    except (OSError, ValueError) as error:
        os.write(STATUS, json.dumps({"refused": message_of(error)}).encode())
        os._exit(1)
    os.write(STATUS, b'"ready"\n')
    clock = time.monotonic
    started = clock()
    verdict = {**run(source), "seconds": clock() - started}
    # What a program prints at its end must not be lost.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass
    os.write(STATUS, json.dumps({"key": settings["key"], **verdict}).encode())
    os._exit(0)


main()

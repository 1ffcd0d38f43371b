"""Run one untrusted program in a confined child process. A script of its own, started by `sandbox`.

It uses the standard library only, because it runs in a bare interpreter (`python -I -S`). It reads a request as JSON
from its standard input and writes a verdict as JSON to its standard output, with the beginning of what the program
printed and the files that it left in its folder, where the request asks for them.

The program runs in a child process that (on Linux) has its own namespaces for users, mounts, processes, network and
IPC: files are read-only, home and temporary folders and all devices but `/dev/null` and its like are hidden, there are
no other processes and no network devices, and the only writable folder is a small one in memory, removed at the end.
The child has no capabilities and can't gain any, resource limits forbid forks, threads, large files and too much
memory, and a filter of system calls forbids those that take memory which these limits don't count. This process never
executes code of the program. It kills the child when its time is over, and thereby all processes of its namespace, of
which it is the first.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import errno
import io
import json
import os
import resource
import secrets
import select
import signal
import stat
import sys
import time

HIDDEN = ("/home", "/root", "/tmp", "/var/tmp", "/run", "/dev/shm", "/mnt", "/media", "/srv")  # noqa: S108
"""Folders that are empty to the program: files and sockets of users and services."""
DEVICES = ("null", "zero", "full", "random", "urandom")
"""All that the program sees of `/dev`; the others lead to terminals, disks and hardware."""
PYTHON = "/run/python"
"""The path at which the program sees the files of the interpreter."""
NOBODY = 65534
START_SECONDS = 30.0
"""Time limit for setting up namespaces on a busy machine; the time of the program begins afterwards."""
MESSAGE_BYTES = 256
FILES = 32
"""Number of files of the program that are returned."""

# From <linux/sched.h>, <linux/mount.h>, <linux/prctl.h> and <linux/capability.h>.
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY, SYS_MOUNT_SETATTR = -100, 0x8000, 1, 442
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CAPABILITY_VERSION_3 = 0x20080522

# From <linux/seccomp.h>, <linux/filter.h> and <linux/audit.h>.
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
LOAD_WORD, JUMP_EQUAL, JUMP_ABOVE, RETURN = 0x20, 0x15, 0x25, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000
"""Verdicts of a filter; `REFUSE` fails with EPERM."""
LAST_NUMBER = 0x3FFFFFFF
"""System calls above have the numbers of another interface (x32)."""
FORBIDDEN = {
    "x86_64": (0xC000003E, (29, 319, 447, 323, 425, 321, 298, 248, 249, 250, 272, 308, 240, 68)),
    "aarch64": (0xC00000B7, (194, 279, 447, 282, 425, 280, 241, 217, 218, 219, 97, 268, 180, 186)),
}
"""By machine, its number and that of shmget, memfd_create and memfd_secret, which take memory beside the address
space; of userfaultfd, io_uring_setup, bpf, perf_event_open, add_key, request_key and keyctl, which programs don't need;
of unshare and setns; and of mq_open and msgget."""


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def main() -> None:
    """Read one request, run its program, and write the verdict. SIGTERM ends the program, and then this process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    request = json.load(sys.stdin)
    output = Output(int(str(request["output_bytes"])))
    answer: dict[str, object] = {"files": {}}
    try:
        answer["verdict"], answer["detail"] = run(request, output)
        beginnings = request.get("returned", [""])
        assert isinstance(beginnings, list)
        answer["files"] = read_files(str(request["folder"]), int(str(request["file_bytes"])), beginnings)
    except OSError as error:
        answer["verdict"], answer["detail"] = "unavailable", str(error)
    answer["output"] = output.text()
    json.dump(answer, sys.stdout)


class Output:
    """The beginning of what a program prints, of at most `limit` bytes; the rest is read and dropped."""

    def __init__(self, limit: int) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self._limit = limit
        self._kept = bytearray()
        self._dropped = 0

    def read(self) -> bool:
        """Read what there is now. Return false when the other end is closed."""
        try:
            piece = os.read(self.reading, 1 << 16)
        except BlockingIOError:
            return True
        kept = piece[: max(0, self._limit - len(self._kept))]
        self._kept += kept
        self._dropped += len(piece) - len(kept)
        return bool(piece)

    def text(self) -> str:
        """Return what was kept, with a note if something was dropped."""
        text = bytes(self._kept).decode("utf-8", "replace")
        return f"{text}\n[{self._dropped} more bytes]" if self._dropped and self._limit else text


def read_files(folder: str, limit: int, beginnings: list[str]) -> dict[str, str]:
    """Return the regular files directly in a folder, in base64, as long as they take at most `limit` bytes together.

    Only those whose names have one of the beginnings are returned, in the order of these.
    """
    found: dict[str, str] = {}
    names = sorted(os.listdir(folder)) if limit else []  # noqa: PTH208
    chosen = dict.fromkeys(name for beginning in beginnings for name in names if name.startswith(beginning))
    for name in list(chosen)[:FILES]:
        with contextlib.suppress(OSError):
            found[name] = base64.b64encode(content := _content(os.path.join(folder, name), limit)).decode()  # noqa: PTH118
            limit -= len(content)
    return found


def _content(path: str, limit: int) -> bytes:
    """Return the content of a regular file. Raises OSError, also when it has more than `limit` bytes."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise OSError(errno.EFBIG, "not a regular file, or too large")
        return os.read(opened, status.st_size)
    finally:
        os.close(opened)


def run(request: dict[str, object], output: Output) -> tuple[str, str]:
    """Return the verdict on the program of a request, and a detail. Raises OSError without namespaces."""
    shown = request["shown"]
    assert isinstance(shown, list)
    if request["namespaces"]:
        _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        enter_namespaces()
        hidden = request["hidden"]
        assert isinstance(hidden, list)
        scratch = int(str(request["scratch_bytes"]))
        hide_files(str(request["folder"]), scratch, [str(path) for path in shown], [str(path) for path in hidden])
    reading, writing = os.pipe()
    mark = secrets.token_bytes(16)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until the child is one that is ended
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_child(request, writing, output.writing, mark)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.close(writing)
        os.close(output.writing)
        return _watch(reading, output, mark, float(str(request["seconds"])))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _watch(reading: int, output: Output, mark: bytes, seconds: float) -> tuple[str, str]:
    """Read the output of the child until it reports, and return the verdict and a detail."""
    if _read(reading, output, time.monotonic() + START_SECONDS, 1) != b"R":
        return "unavailable", "the sandbox could not be set up"
    message = _read(reading, output, time.monotonic() + seconds, MESSAGE_BYTES)
    if message is None:
        return "timeout", f"ran for more than {seconds:g} s"
    if message.startswith(mark):
        return "passed", ""
    return "failed", message.decode("utf-8", "replace").strip() or "ended without a result"


def _read(reading: int, output: Output, deadline: float, size: int) -> bytes | None:
    """Read at most `size` bytes, and the output meanwhile and before.

    The result is empty when the other end is closed, None when the time is over.
    """
    waiting = [reading, output.reading]
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select(waiting, [], [], left)
        if output.reading in ready:
            if not output.read():
                waiting.remove(output.reading)
        elif reading in ready:
            return os.read(reading, size)
    return None


def _in_child(request: dict[str, object], writing: int, printing: int, mark: bytes) -> None:
    """Confine this process, run the program, and exit. Never returns."""
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if request["namespaces"]:
            _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            hide_processes()
        os.chdir(str(request["folder"]))
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        for name, number in (("stdout", 1), ("stderr", 2)):
            raw = os.fdopen(os.dup2(printing, number), "wb", 0)
            # Not buffered, so that nothing is lost when the program is killed.
            setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True))
        if request["namespaces"]:
            drop_privileges()
        set_limits(request)
        if request["namespaces"]:
            filter_system_calls()
        if request["awaited"] is not None:
            select.select([int(str(request["awaited"]))], [], [])
        os.write(writing, b"R")
        os.write(writing, _verdict(str(request["program"]), mark))
    finally:
        os._exit(0)


def _verdict(program: str, mark: bytes) -> bytes:
    try:
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})  # noqa: S102 - what a jail is for
    except BaseException as error:
        return f"{type(error).__name__}: {error}".encode()[:MESSAGE_BYTES]
    return mark


def enter_namespaces() -> None:
    """Enter new namespaces for mounts, processes, network, IPC and users. Raises OSError."""
    apart = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    if os.geteuid() == 0:
        _call("unshare", apart)
        return
    user, group = os.geteuid(), os.getegid()
    _call("unshare", apart | CLONE_NEWUSER)
    for file, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{file}", "w") as map:  # noqa: PTH123 - pathlib need not be loaded here
            map.write(text)


def hide_files(folder: str, scratch_bytes: int, shown: list[str], homes: list[str]) -> None:
    """Make all files read-only, hide `HIDDEN` and `homes` but for the folders in `shown`, and all but a few devices.

    `folder` is the path of an empty folder in memory, which is mounted. Raises OSError.
    """
    interpreter = os.open(sys.base_prefix, os.O_PATH)
    # Only folders can be mounted; single files are hidden or shown with theirs.
    kept = {path: os.open(path, os.O_PATH) for path in shown if os.path.isdir(path)}  # noqa: PTH112
    devices = {name: os.open(f"/dev/{name}", os.O_PATH) for name in DEVICES if os.path.exists(f"/dev/{name}")}  # noqa: PTH110
    _mount("none", "/", "", MS_REC | MS_PRIVATE, "")
    for hidden in ("/dev", *HIDDEN, *homes):
        if os.path.isdir(hidden):  # noqa: PTH112
            _mount("tmpfs", hidden, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for name, opened in devices.items():
        os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        _mount(f"/proc/self/fd/{opened}", f"/dev/{name}", "", MS_BIND, "")
        os.close(opened)
    os.makedirs(PYTHON, exist_ok=True)  # noqa: PTH103
    _mount(f"/proc/self/fd/{interpreter}", PYTHON, "", MS_BIND | MS_REC, "")
    os.close(interpreter)
    for visible, opened in kept.items():
        os.makedirs(visible, exist_ok=True)  # noqa: PTH103
        _mount(f"/proc/self/fd/{opened}", visible, "", MS_BIND | MS_REC, "")
        os.close(opened)
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    read_only = _MountAttributes(set=MOUNT_ATTR_RDONLY)
    size = ctypes.c_size_t(ctypes.sizeof(read_only))
    _call("syscall", SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, ctypes.byref(read_only), size)
    _mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, f"size={scratch_bytes},mode=777")
    _move_imports(sys.path)
    for module in sys.modules.values():
        if isinstance(path := getattr(module, "__path__", None), list):
            _move_imports(path)
    sys.path_importer_cache.clear()


def _move_imports(paths: list[str]) -> None:
    paths[:] = [path.replace(sys.base_prefix, PYTHON, 1) for path in paths if path.startswith(sys.base_prefix)]


def hide_processes() -> None:
    """Show the processes of this namespace alone, or none where that is not allowed (in many containers)."""
    try:
        _mount("proc", "/proc", "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "")
    except OSError:
        _mount("tmpfs", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "size=4k,mode=555")


def filter_system_calls() -> None:
    """Forbid the system calls in `FORBIDDEN`, for good. Does nothing on a machine whose numbers are not known.

    Needs `no_new_privs`. Raises OSError.
    """
    if os.uname().machine not in FORBIDDEN:
        return
    machine, numbers = FORBIDDEN[os.uname().machine]
    program = [
        (LOAD_WORD, 0, 0, 4),  # seccomp_data.arch
        (JUMP_EQUAL, 1, 0, machine),
        (RETURN, 0, 0, KILL),
        (LOAD_WORD, 0, 0, 0),  # seccomp_data.nr
        (JUMP_ABOVE, len(numbers) + 1, 0, LAST_NUMBER),
        *((JUMP_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    instructions = (_Instruction * len(program))(*(_Instruction(*one) for one in program))
    rules = _Filter(len(program), instructions)
    _call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(rules), 0, 0)


def drop_privileges() -> None:
    """Become the user `nobody` if root, and give up all capabilities for good. Raises OSError."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    none = (ctypes.c_uint32 * 6)()
    _call("capset", ctypes.byref(_CapabilityHeader(CAPABILITY_VERSION_3, 0)), ctypes.byref(none))
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of the user clears it


def set_limits(request: dict[str, object]) -> None:
    """Set resource limits that a process without capabilities can't raise.

    The parent enforces the time limit; the limit of CPU time is for the case that the parent is gone.
    """
    limits = {
        resource.RLIMIT_AS: int(str(request["memory_bytes"])),
        resource.RLIMIT_CPU: int(float(str(request["seconds"]))) + 2,
        resource.RLIMIT_FSIZE: int(str(request["scratch_bytes"])),
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    if hasattr(resource, "RLIMIT_MSGQUEUE"):
        limits[resource.RLIMIT_MSGQUEUE] = 0
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def _mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library. Raises OSError when it does not return 0."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    main()

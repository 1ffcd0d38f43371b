"""Programs that misbehave stay confined."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from attrs import evolve

from codegen_lsp.sandbox.jail import FORBIDDEN
from codegen_lsp.sandbox.sandbox import (
    Confinement,
    Limits,
    ProgramStoppedError,
    SandboxError,
    Verdict,
    run_program,
)
from tests.children import running_jails

BRIEF = Limits(seconds=1.0, memory_mb=256, scratch_mb=2)
"""For programs that do not end; others have more time, since a machine may be busy."""
SMALL = evolve(BRIEF, seconds=60.0)


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    try:
        run_program("pass")
    except SandboxError as error:
        pytest.skip(str(error))


def passes(program: str) -> None:
    verdict = run_program(program, Limits(seconds=30.0))
    assert verdict.kind == "passed", verdict


def kind(program: str, limits: Limits = SMALL) -> str:
    return run_program(program, limits).kind


def test_a_program_that_ends_has_passed() -> None:
    program = "import math, re, typing, collections, hashlib, random, json\nassert math.sqrt(4) == 2"
    assert run_program(program) == Verdict("passed")


def test_an_exception_is_named() -> None:
    verdict = run_program("assert [] == [0], 'empty'")
    assert verdict.kind == "failed"
    assert verdict.detail == "AssertionError: empty"


@pytest.mark.parametrize("program", ["exit()", "import os; os._exit(0)", "import sys; sys.exit(0)", "raise SystemExit"])
def test_leaving_early_is_no_success(program: str) -> None:
    assert kind(program) == "failed"


def test_text_that_is_no_program_fails() -> None:
    assert kind("def f(:") == "failed"
    assert kind("x = '\\ud800\0'") == "failed"


@pytest.mark.parametrize("program", ["while True: pass", "import time; time.sleep(60)", "sum(range(10**12))"])
def test_an_endless_program_is_ended(program: str) -> None:
    assert kind(program, BRIEF) == "timeout"


def test_a_program_that_ignores_signals_is_ended() -> None:
    program = "import signal\nfor n in (2, 15, 24): signal.signal(n, signal.SIG_IGN)\nwhile True: pass"
    assert kind(program, BRIEF) == "timeout"


@pytest.mark.parametrize("program", ["x = 'a' * (1 << 40)", "x = []\nwhile True: x.append(bytearray(1 << 22))"])
def test_memory_is_bounded(program: str) -> None:
    verdict = run_program(program, Limits(seconds=60.0, memory_mb=256))
    assert verdict.kind == "failed"
    assert "MemoryError" in verdict.detail


@pytest.mark.parametrize(
    "program",
    [
        "import os\nos.fork()",
        "import subprocess\nsubprocess.run(['/bin/true'])",
        "import threading\nthreading.Thread(target=print).start()",
        "import os\nwhile True: os.fork()",
    ],
)
def test_no_processes_and_threads(program: str) -> None:
    assert kind(program) == "failed"


def test_it_has_a_folder_of_its_own() -> None:
    assert kind("open('x', 'w').write('x')\nassert open('x').read() == 'x'") == "passed"
    assert kind("import os\nassert os.listdir('.') == []") == "passed"


def test_the_folder_is_small() -> None:
    verdict = run_program("f = open('x', 'wb', 0)\nwhile True: f.write(bytes(1 << 16))", SMALL)
    assert verdict.kind == "failed"


def test_other_files_can_not_be_written_or_deleted(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    tmp_path.chmod(0o777)
    precious.chmod(0o666)
    here = Path(__file__).with_name("written-by-a-program")
    for program in (
        f"open({str(precious)!r}, 'w')",
        f"import os; os.remove({str(precious)!r})",
        f"import shutil; shutil.rmtree({str(tmp_path)!r})",
        f"open({str(here)!r}, 'w')",
        f"import os; os.chmod({str(here.parent)!r}, 0)",
        "open('/etc/codegen-lsp-test', 'w')",
        "open('/dev/shm/codegen-lsp-test', 'w')",
    ):
        assert kind(program) == "failed", program
    assert precious.read_text() == "kept"
    assert not here.exists()


def test_homes_and_temporary_files_are_not_seen(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    if tmp_path.is_relative_to("/tmp"):
        assert kind(f"open({str(tmp_path / 'secret')!r})") == "failed"
    hidden = [str(Path.home() / name) for name in (".bashrc", ".profile")]
    assert kind(f"import os\nassert not any(map(os.path.exists, {hidden}))") == "passed"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


def test_no_network(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert kind(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 0.5)") == "failed"
    with pytest.raises(TimeoutError):
        listener.accept()


def test_other_processes_can_not_be_reached() -> None:
    assert kind(f"import os\nos.kill({os.getpid()}, 0)") == "failed"
    assert kind("import os\nassert os.getpid() == 1") == "passed"


def test_privileges_can_not_be_had_back() -> None:
    program = """
import ctypes, os
assert os.getuid() == os.geteuid() != 0
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mount(b"tmpfs", b"/etc", b"tmpfs", 0, None) != 0
assert libc.umount2(b"/tmp", 2) != 0
for attempt in (os.setuid, os.setgid):
    try:
        attempt(0)
    except PermissionError:
        continue
    raise AssertionError(attempt)
"""
    assert run_program(program) == Verdict("passed")


def test_nested_namespaces_do_not_make_files_writable() -> None:
    program = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000 | 0x00020000) == 0:
    class A(ctypes.Structure):
        _fields_ = [(n, ctypes.c_uint64) for n in "abcd"]
    attributes = A(0, 1, 0, 0)
    assert libc.syscall(442, -100, b"/", 0x8000, ctypes.byref(attributes), ctypes.c_size_t(32)) != 0
    assert libc.umount2(b"/tmp", 2) != 0
"""
    assert run_program(program) == Verdict("passed")


def test_the_callers_environment_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEGEN_LSP_TEST_SECRET", "secret")
    assert kind("import os\nassert 'CODEGEN_LSP_TEST_SECRET' not in os.environ") == "passed"


def test_output_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    flood = "import sys\nfor _ in range(1000): print('x' * 1000); sys.stderr.write('y' * 1000)"
    assert kind(flood) == "passed"
    assert capfd.readouterr() == ("", "")


def test_a_forged_report_is_no_success() -> None:
    program = (
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'passed')\n    except OSError: pass\nos._exit(0)"
    )
    assert kind(program) == "failed"


def test_limits_alone_still_end_a_program() -> None:
    assert run_program("while True: pass", BRIEF, "limits").kind == "timeout"
    assert run_program("x = 'a' * (1 << 40)", SMALL, "limits").kind == "failed"
    assert run_program("assert True", SMALL, "limits").kind == "passed"


def test_systems_without_namespaces_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxError, match="--limits-only"):
        run_program("pass")


def test_folders_that_are_shown_can_be_read_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "thing.py").write_text("NUMBER = 7\n")
    (tmp_path / "secret.txt").write_text("secret")
    folder = str(tmp_path / "project")
    reads = f"import sys; sys.path.insert(0, {folder!r}); import thing; assert thing.NUMBER == 7"
    assert run_program(reads, shown=[tmp_path / "project"]).kind == "passed"
    writes = f"open({folder + '/other.py'!r}, 'w')"
    assert "Read-only" in run_program(writes, shown=[tmp_path / "project"]).detail
    beside = f"open({str(tmp_path / 'secret.txt')!r})"
    assert "FileNotFoundError" in run_program(beside, shown=[tmp_path / "project"]).detail


def test_no_devices_but_a_few_are_seen() -> None:
    """A terminal of the user could be read and written."""
    passes(
        "import os\n"
        "assert set(os.listdir('/dev')) <= {'null', 'zero', 'full', 'random', 'urandom', 'shm'}, os.listdir('/dev')\n"
        "assert open('/dev/zero', 'rb').read(3) == bytes(3)\n"
        "assert len(open('/dev/urandom', 'rb').read(3)) == 3\n"
        "open('/dev/null', 'w').write('x')\n"
    )


def test_no_other_processes_are_seen() -> None:
    passes(
        "import os\n"
        "assert {name for name in os.listdir('/proc') if name.isdigit()} <= {'1'}\n"
        "assert not os.path.exists('/proc/2')\n"
    )


HOMES = {"HOME": "", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data", "GNUPGHOME": "keys"}


@pytest.mark.parametrize("variable", HOMES)
def test_homes_anywhere_are_hidden(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only below `/home` and `/root`."""
    folder = Path(tempfile.mkdtemp(dir="/var/lib"))
    try:
        (folder / "config").mkdir()
        monkeypatch.setenv(variable, str(folder))
        (folder / "key").write_text("secret")
        passes(f"import os\nassert not os.path.exists({str(folder / 'key')!r})")
    finally:
        shutil.rmtree(folder)


def test_a_home_is_not_shown_as_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder that is in version control would be the project of a file in it."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    (tmp_path / "me" / "project").mkdir(parents=True)
    (tmp_path / "me" / "project" / "a.py").write_text("")
    for shown in (tmp_path / "me", tmp_path):
        with pytest.raises(SandboxError, match="private files"):
            run_program("pass", shown=[shown])
    assert run_program("pass", shown=[tmp_path / "me" / "project"]).kind == "passed"


MEMORY = {
    "shared memory": (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.shmget(0, 1 << 24, 0o1600) == -1 and ctypes.get_errno() == 1"
    ),
    "anonymous files": (
        "import os\ntry: os.memfd_create('x')\nexcept PermissionError: pass\nelse: raise SystemExit('made')"
    ),
    "message queues": (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.msgget(0, 0o1600) == -1 and ctypes.get_errno() == 1"
    ),
    "namespaces": (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.unshare(0x10000000) == -1 and ctypes.get_errno() == 1"
    ),
}


@pytest.mark.skipif(os.uname().machine not in FORBIDDEN, reason="the numbers of system calls are not known")
@pytest.mark.parametrize("kind", MEMORY)
def test_memory_that_no_limit_counts_is_not_given(kind: str) -> None:
    passes(MEMORY[kind])


def test_an_ordinary_user_is_confined_alike() -> None:
    """Most users are not root: the namespaces then begin with one for users."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is missing")
    program = MEMORY["anonymous files"] + "\nassert 'pts' not in os.listdir('/dev')"
    code = f"from codegen_lsp.sandbox.sandbox import run_program; print(run_program({program!r}))"
    command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr or "can't be confined" in done.stderr:
        pytest.skip("nested namespaces are not allowed here")
    assert "kind='passed'" in done.stdout, done.stdout + done.stderr


TALK = Limits(seconds=30.0, output_bytes=100, file_bytes=1000)


def test_output_is_returned_up_to_a_limit() -> None:
    verdict = run_program("import sys\nprint('é')\nprint('\\ud800', file=sys.stderr)", TALK)
    assert (verdict.kind, verdict.output) == ("passed", "é\n\\ud800\n")
    verdict = run_program("print('x' * 300)", TALK)
    assert verdict.output == "x" * 100 + "\n[201 more bytes]"
    assert run_program("print('x')", Limits(seconds=30.0)).output == ""


def test_output_before_a_failure_is_kept() -> None:
    assert run_program("print('a')\n1 / 0", TALK).output == "a\n"
    assert run_program("import os\nprint('a')\nos._exit(3)", TALK).output == "a\n"
    verdict = run_program("print('a', end='')\nwhile True: pass", Limits(seconds=1.0, output_bytes=10))
    assert (verdict.kind, verdict.output) == ("timeout", "a")


def test_a_program_that_prints_for_ever_is_ended() -> None:
    verdict = run_program("while True: print('x' * 1000)", Limits(seconds=1.0, output_bytes=10))
    assert verdict.kind == "timeout"
    assert verdict.output.startswith("x" * 10 + "\n[")


def test_files_that_a_program_leaves_are_returned() -> None:
    program = "open('a', 'wb').write(b'\\0b')\nopen('big', 'w').write('x' * 1001)\nopen('c', 'w').write('c')"
    assert run_program(program, TALK).files == {"a": b"\0b", "c": b"c"}
    assert run_program(program, Limits(seconds=30.0)).files == {}
    assert run_program("open('a', 'w').write('x' * 600)\nopen('b', 'w').write('y' * 600)", TALK).files == {
        "a": b"x" * 600
    }


def test_only_regular_files_of_its_own_are_returned() -> None:
    program = (
        "import os\nos.symlink('/etc/passwd', 'a')\nos.mkfifo('b')\nos.mkdir('c')\nos.symlink('/proc/1/maps', 'd')\n"
        "open('e', 'w').write('e')\nos.chmod('e', 0)"
    )
    assert set(run_program(program, TALK).files) <= {"e"}


def processes_of(program: threading.Thread) -> list[psutil.Process]:
    """Return the jail that runs in a thread and its child, which is the program, once there are both."""
    while program.is_alive():
        for jail in running_jails():
            return [jail, *jail.children()]
        time.sleep(0.01)
    raise AssertionError("the program ended")


@pytest.mark.parametrize("confinement", ["namespaces", "limits"])
def test_a_program_is_stopped_with_its_processes(confinement: Confinement) -> None:
    stop, errors = threading.Event(), []

    def run() -> None:
        try:
            run_program("import time\nwhile True: time.sleep(60)", Limits(seconds=600.0), confinement, stop=stop)
        except ProgramStoppedError as error:
            errors.append(str(error))

    running = threading.Thread(target=run)
    running.start()
    processes = processes_of(running)
    stop.set()
    running.join()
    assert errors == ["The program was stopped."]
    assert psutil.wait_procs(processes, timeout=60)[1] == []


def test_a_program_ends_with_its_jail() -> None:
    """As when the server is killed, and the jail with it."""

    def run() -> None:
        with contextlib.suppress(SandboxError):
            run_program("import time\nwhile True: time.sleep(60)", Limits(seconds=600.0))

    running = threading.Thread(target=run)
    running.start()
    jail, *children = processes_of(running)
    jail.kill()
    running.join()
    assert psutil.wait_procs(children, timeout=60)[1] == []

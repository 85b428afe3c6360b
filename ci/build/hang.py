"""What hangs, and where: a dump of a check's processes before they are killed.

All processes of a check carry a mark in their environment, since test runners put
their workers into sessions of their own and a process group would miss them.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

MARK = "VTHREADS_CHECK"
SHOWN_THREADS = 40          # of a process; a pool that hangs does so many times alike
SHOWN_BACKTRACES = 3        # by gdb, which takes seconds a process
GDB_TIMEOUT_S = 60
GRACE_S = 10                # for faulthandler's dump, and for a runner's own clean-up


def marked(mark):
    """The live processes whose environment has the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue                    # ended, or not ours
    return sorted(found)


def _read(path):
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return "?"


def _describe(pid, write):
    proc = Path("/proc") / str(pid)
    command = _read(proc / "cmdline").replace("\0", " ")[:200]
    write(f"--- process {pid}: {command}")
    try:
        threads = sorted(int(t.name) for t in (proc / "task").iterdir())
    except OSError:
        return
    for thread in threads[:SHOWN_THREADS]:
        task = proc / "task" / str(thread)
        state = _read(task / "stat").rpartition(")")[2].split()[:1]
        write(f"    thread {thread} {_read(task / 'comm')}: state "
              f"{state[0] if state else '?'}, in {_read(task / 'wchan')}, "
              f"system call {_read(task / 'syscall')}")
    if len(threads) > SHOWN_THREADS:
        write(f"    ... {len(threads) - SHOWN_THREADS} more threads")


def _backtrace(pid, write):
    if not shutil.which("gdb"):
        write("    (no native stacks: gdb is not installed)")
        return
    try:
        done = subprocess.run(
            ["gdb", "-q", "-batch", "-p", str(pid), "-ex", "thread apply all bt 24"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=GDB_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        write("    (gdb took too long)")
        return
    for line in done.stdout.splitlines():
        if line.startswith(("#", "Thread ")):
            write(f"    {line}")


def _catches(pid, signum):
    """Does it have a handler?  The default action of these signals is to die."""
    for line in _read(Path("/proc") / str(pid) / "status").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
    return False


def _send(pids, signum):
    for pid in pids:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            pass


def dump(mark, write):
    """Writes what each process does.  Python's stacks go to the processes' own stderr."""
    pids = marked(mark)
    for pid in pids:
        _describe(pid, write)
    for pid in pids[-SHOWN_BACKTRACES:]:        # the youngest: those that do the work
        write(f"--- native stacks of {pid}")
        _backtrace(pid, write)
    # CPython's test runner dumps all threads upon SIGUSR1.
    asked = [pid for pid in pids if _catches(pid, signal.SIGUSR1)]
    if asked:
        write(f"--- Python stacks of {', '.join(map(str, asked))} follow")
        _send(asked, signal.SIGUSR1)
        _wait_gone(mark, 2)


def _wait_gone(mark, seconds):
    deadline = time.monotonic() + seconds
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)


def kill(mark):
    """Ends all processes of a check: SIGABRT first, since faulthandler answers to it."""
    _send(marked(mark), signal.SIGABRT)
    _wait_gone(mark, GRACE_S)
    while pids := marked(mark):
        _send(pids, signal.SIGKILL)
        _wait_gone(mark, 1)

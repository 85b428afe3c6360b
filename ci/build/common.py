"""What all build scripts share: where things are, running commands, failing well.

A failure that the user can do something about is a Stop: one clear line on stderr and
exit status 1.  A traceback means a bug in these scripts.
"""

import contextlib
import errno
import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
OVERLAY = ROOT / "cpython"
PATCHES = ROOT / "patches"
TREE = BUILD / "tree"

# A release build with its install takes 1.2 GB, its tree 0.4; below this, say so at
# the start and not after ten minutes.
MIN_FREE_BYTES = 2 << 30


class Stop(Exception):
    """One line for the user."""


def say(text):
    print(f"build.sh: {text}", file=sys.stderr, flush=True)


def show(argv, *, cwd=None, log=None, note=None):
    """Prints the real command, as it could be typed."""
    line = " ".join(shlex.quote(str(word)) for word in argv)
    if log is not None:
        line += f" >> {shlex.quote(str(log))}"
    if cwd is not None:
        line = f"(cd {shlex.quote(str(cwd))} && {line})"
    if note is not None:
        line += f"    # {note}"
    print(f"+ {line}", file=sys.stderr, flush=True)


def run(argv, *, cwd=None, env=None, what=None):
    """Shows and runs a command whose output the user sees; Stop when it fails."""
    show(argv, cwd=cwd)
    try:
        status = subprocess.run(argv, cwd=cwd, env=env).returncode
    except FileNotFoundError:
        raise Stop(f"the tool '{argv[0]}' is missing") from None
    if status:
        check_free(at_least=64 << 20)
        raise Stop(f"{what or Path(argv[0]).name} failed (status {status})")


def capture(argv, *, cwd=None, env=None, input=None, check=True):
    """Runs a quiet command and returns its CompletedProcess (bytes)."""
    try:
        done = subprocess.run(argv, cwd=cwd, env=env, input=input,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise Stop(f"the tool '{argv[0]}' is missing") from None
    if check and done.returncode:
        check_free(at_least=64 << 20)
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise Stop(f"{' '.join(map(str, argv[:4]))} ... failed: "
                   f"{lines[0] if lines else done.returncode}")
    return done


# Git as the scripts need it: nobody's configuration may change a patch's bytes.
GIT_ENV = {
    **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "Virtual threads for Python",
    "GIT_AUTHOR_EMAIL": "vthreads@localhost",
    "GIT_COMMITTER_NAME": "Virtual threads for Python",
    "GIT_COMMITTER_EMAIL": "vthreads@localhost",
    "GIT_AUTHOR_DATE": "1577836800 +0000",
    "GIT_COMMITTER_DATE": "1577836800 +0000",
    # A checkout that belongs to another user, as in many a CI.
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "LC_ALL": "C",
}


def git(*args, cwd, check=True, input=None, env=None):
    return capture(["git", *args], cwd=cwd, check=check, input=input,
                   env={**GIT_ENV, **(env or {})})


def git_text(*args, cwd):
    return git(*args, cwd=cwd).stdout.decode("utf-8", "surrogateescape").strip()


def jobs():
    text = os.environ.get("JOBS", "")
    if not text:
        return len(os.sched_getaffinity(0))
    if not text.isdigit() or int(text) < 1:
        raise Stop(f"JOBS={text!r}: a positive number is expected")
    return int(text)


def compiler(cached=True):
    """CC for configure and CMake: the user's, with ccache where that is installed."""
    words = [w for w in os.environ.get("CC", "gcc").split() if w != "ccache"]
    if not words or not shutil.which(words[0]):
        raise Stop(f"CC={os.environ.get('CC', 'gcc')!r}: there is no such compiler")
    if cached and shutil.which("ccache"):
        words.insert(0, "ccache")
    return " ".join(words)


def check_free(at_least=MIN_FREE_BYTES):
    place = BUILD if BUILD.exists() else ROOT
    free = shutil.disk_usage(place).free
    if free < at_least:
        raise Stop(f"the disk is full: {free >> 20} MB are free in {place}, "
                   f"{at_least >> 20} MB are needed")


@contextlib.contextmanager
def locked(name):
    """One build.sh at a time for what `name` stands for; others wait, and say so."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / f".{name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another build.sh that works on {name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove(path):
    """Removes a file or a directory, which need not exist."""
    path = Path(path)
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def main(function):
    """Runs a script's main function; a Stop becomes one line and status 1."""
    try:
        sys.exit(function())
    except Stop as stop:
        say(stop)
        sys.exit(1)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            say(f"the disk is full: {error}")
            sys.exit(1)
        raise

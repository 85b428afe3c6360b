#!/usr/bin/env python3
"""Configures, compiles and installs one interpreter (the CMake target `python`).

    <out>/cpython     CPython's build directory (out of its source tree)
    <out>/install     the installation; <out>/install/bin/python3
    <out>/cpython.log what configure, make and make install have printed

CPython's Makefile takes seconds to find out that there is nothing to do, and its
installation copies and compiles the whole library each time.  Therefore:

* Nothing is run at all while no source file is newer than the last installation.
* After the first installation only programs, extension modules and headers are
  installed anew, and changed files of the library are copied, removed ones removed.
  Another Makefile, or a new directory of the library, installs from scratch.
* Builds with assertions or sanitizers don't compile the library's packages when they
  are installed, which takes them minutes: modules are compiled as they are imported.
* Other arguments of configure, another compiler or another configure start from
  scratch (ccache makes that cheap); everything else is incremental.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from common import Stop, check_free, compiler, jobs, main, remove, say, show

PROGRESS_S = 15         # a line while a long command runs, so that nobody thinks it hangs

JEMALLOC = "-Wl,--push-state,--no-as-needed -ljemalloc -Wl,--pop-state"

# Leaks at exit are not what these builds look for, and configure's and make's own
# programs would fail for them.
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_segv=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def sources(tree):
    """(path, mtime in ns) of each file of the source tree; 5,000 files in 50 ms."""
    found = []
    stack = [str(tree)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in (".git", "__pycache__"):
                        stack.append(entry.path)
                else:
                    found.append((entry.path,
                                  entry.stat(follow_symlinks=False).st_mtime_ns))
    return sorted(found)


def logged(argv, log, cwd, env):
    """Runs a command with its output in the log; its last lines when it fails."""
    show(argv, cwd=cwd, log=log)
    started = time.monotonic()
    with open(log, "ab") as file:
        process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL,
                                   stdout=file, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    status = process.wait(timeout=PROGRESS_S)
                    break
                except subprocess.TimeoutExpired:
                    objects = sum(1 for _ in Path(cwd).rglob("*.o"))
                    say(f"{Path(argv[0]).name}: {time.monotonic() - started:.0f} s, "
                        f"{objects} objects so far")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if status:
        check_free(at_least=64 << 20)
        lines = Path(log).read_text(errors="replace").splitlines()
        errors = [line for line in lines if " error: " in line or "*** " in line
                  or "undefined reference" in line]
        for line in (errors[:20] or lines[-20:]):
            print(line, file=sys.stderr)
        raise Stop(f"{' '.join(argv[:2])} failed (status {status}); all output: {log}")


class Build:
    def __init__(self, options):
        self.options = options
        self.tree = options.tree.resolve()
        self.out = options.out.resolve()
        self.work = self.out / "cpython"
        self.install = self.out / "install"
        self.log = self.out / "cpython.log"
        self.stamp = self.out / "cpython.stamp"         # written by the last success
        self.arguments = self.out / "cpython.arguments" # of the last configure
        self.env = {**os.environ, **SANITIZER_ENV, "LC_ALL": "C.UTF-8"}
        self.env.pop("PYTHONHOME", None)
        self.env.pop("PYTHONPATH", None)
        # sys.version as of a release: the assembled tree's commits mean nothing.
        self.make = ["make", f"-j{options.jobs or jobs()}",
                     "GITVERSION=", "GITTAG=", "GITBRANCH="]
        if options.library:
            self.make += [f"CONTINUATIONS_LIB={options.library}",
                          f"CONTINUATIONS_INCLUDE={options.include}"]

    def wanted(self):
        # A profile names the sources as the compiler was given them, and ccache may give
        # them other names when it makes the profile than when it is used.
        cc = compiler(cached="--enable-optimizations" not in self.options.configure)
        version = subprocess.run([*cc.split(), "--version"], text=True,
                                 stdout=subprocess.PIPE).stdout.splitlines()[:1]
        argv = [f"--prefix={self.install}", f"CC={cc}", *self.options.configure]
        if self.options.cflags:
            argv.append(f"CFLAGS={self.options.cflags}")
        if self.options.cppflags:
            argv.append(f"CPPFLAGS={self.options.cppflags}")
        if self.options.malloc == "jemalloc":
            argv.append(f"LIBS={JEMALLOC}")
        return argv, version

    def read_stamp(self):
        try:
            return json.loads(self.stamp.read_text())
        except (OSError, ValueError):
            return None

    def run(self):
        argv, version = self.wanted()
        configure = (self.tree / "configure").stat().st_mtime_ns
        arguments = json.dumps([str(self.tree), argv, version, configure])
        configured = (self.arguments.is_file() and (self.work / "Makefile").is_file()
                      and self.arguments.read_text() == arguments)
        found = sources(self.tree)
        if self.options.library:
            found.append((str(self.options.library),
                          self.options.library.stat().st_mtime_ns))
        names = [path for path, _ in found]
        newest = max(mtime for _, mtime in found)
        done = self.read_stamp()
        if configured and done and done["newest"] == newest and done["names"] == names \
                and (self.install / "bin" / "python3").exists():
            return 0

        check_free()
        started = time.time_ns()
        if not configured:
            remove(self.arguments)
            remove(self.work)
            self.work.mkdir(parents=True)
            remove(self.log)
            logged([str(self.tree / "configure"), *argv], self.log, self.work, self.env)
            self.arguments.write_text(arguments)
            done = None
        remove(self.stamp)
        logged(self.make, self.log, self.work, self.env)
        self.put(found, names, done)
        self.stamp.write_text(json.dumps(
            {"newest": newest, "names": names, "started": started}))
        return 0

    def put(self, found, names, done):
        """Installs what was built, wholly or only what has changed."""
        makefile = (self.work / "Makefile").stat().st_mtime_ns
        make = [self.make[0], *self.make[2:]]           # its installation is not parallel
        if done is None or makefile > done["started"] or \
                not self.put_library(found, names, done):
            if any("pydebug" in a or "sanitizer" in a for a in self.options.configure):
                make.append("COMPILEALL_OPTS=-j0 -r 0")
            remove(self.install)
            logged([*make, "install"], self.log, self.work, self.env)
            return
        logged([*make, "altbininstall", "bininstall", "inclinstall", "libainstall",
                "sharedinstall"], self.log, self.work, self.env)

    def put_library(self, found, names, done):
        """Copies what has changed in Lib; False when that takes a new directory."""
        library = next(self.install.glob("lib/python3.*/os.py")).parent
        prefix = str(self.tree / "Lib") + os.sep
        before = set(done["names"])
        changed = [path for path, mtime in found if path.startswith(prefix)
                   and (mtime > done["newest"] or path not in before)]
        removed = [path for path in before.difference(names) if path.startswith(prefix)]
        # Directories are what LIBSUBDIRS and TESTSUBDIRS say, which make knows.
        if not all((library / path[len(prefix):]).parent.is_dir() for path in changed):
            return False
        for path in changed:
            show(["cp", path, library / path[len(prefix):]])
            shutil.copy(path, library / path[len(prefix):])
        for path in removed:
            show(["rm", "-f", library / path[len(prefix):]])
            (library / path[len(prefix):]).unlink(missing_ok=True)
        return True


def _main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--library", type=Path)
    parser.add_argument("--include", type=Path)
    parser.add_argument("--cflags", default="")
    parser.add_argument("--cppflags", default="")
    parser.add_argument("--malloc", choices=("default", "jemalloc"), default="default")
    parser.add_argument("--jobs", default="")
    parser.add_argument("configure", nargs="*")
    options = parser.parse_args()
    if not (options.tree / "configure").is_file():
        raise Stop(f"{options.tree} has no source of CPython: ./build.sh tree makes it")
    return Build(options).run()


if __name__ == "__main__":
    main(_main)

#!/usr/bin/env python3
"""Runs all tests: ./build.sh test.

A check is an executable that needs no arguments and whose last line of output is
"N passed, N failed"; these are ci/lib.sh and ci/check-*.  The lint comes first, since
it takes seconds, then the builds of the interpreter and the checks that need them; beside
these, from the first build on, the library's tests, which wait more than they work.  The
numbers are summed, and the sum is printed alone on the last line.

A check that prints no such line, or whose exit status contradicts it, has one failure.
One that takes too long is dumped (see hang.py) before it is killed.
"""

import argparse
import os
import re
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hang
import interpreter
from common import BUILD, ROOT, Stop, main, say, show

# Minutes, on two processors with nothing cached.  The suite of CPython takes 10, its part with
# every thread virtual 6, the virtual threads' own tests 7.
TIMEOUTS = {"lint": 5, "lib": 25, "cpython": 35, "all-virtual": 20, "abi": 20, "vthreads": 35}
DEFAULT_TIMEOUT = 10
ORPHANS_S = 10                          # from a check's end to the end of its output
PRESETS = ["release", "hard"]           # what the checks need; others are built by them

# When a check runs: before all, beside what follows, or with the builds.
FIRST, BESIDE, WITH_BUILDS = range(3)

LAST_LINE = re.compile(r"(\d+) passed, (\d+) failed")


def find_checks():
    """(name, command, when), in the order they run in."""
    found = [("lint", [str(ROOT / "ci/build/lint.py")], FIRST)]
    library = ROOT / "ci" / "lib.sh"
    if library.is_file():
        found.append(("lib", [str(library)], BESIDE))
    else:
        say("not checked: the library; ci/lib.sh does not exist yet")
    # CPython's suite, which takes most of the time, comes last.
    paths = sorted((ROOT / "ci").glob("check-*"), key=lambda p: (p.name == "check-cpython",
                                                                p.name))
    for path in paths:
        if path.suffix not in ("~", ".pyc"):
            found.append((path.name.removeprefix("check-"), [str(path)], WITH_BUILDS))
    return found


class Watchdog:
    """Dumps and kills a check that takes too long."""

    def __init__(self, name, minutes, mark, write):
        self.expired = False
        self.name, self.minutes, self.mark, self.write = name, minutes, mark, write
        self.timer = threading.Timer(minutes * 60, self._expire)
        self.timer.daemon = True
        self.timer.start()

    def _expire(self):
        self.expired = True
        self.write(f"{self.name}: no end after {self.minutes} minutes; its processes:")
        try:
            hang.dump(self.mark, self.write)
        finally:
            hang.kill(self.mark)

    def stop(self):
        self.timer.cancel()
        if self.expired:
            self.timer.join()


def end_orphans(process, mark, all_read):
    """Ends what a check leaves behind when that still holds the pipe of its output."""
    process.wait()
    if not all_read.wait(ORPHANS_S):
        hang.kill(mark)


def run_check(name, command, prefix=""):
    """Runs one check; returns (passed, failed).  Each line that is shown begins with prefix."""
    minutes = TIMEOUTS.get(name, DEFAULT_TIMEOUT)
    logs = BUILD / "log"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}.log"
    mark = uuid.uuid4().hex
    env = {**os.environ, hang.MARK: mark, "PYTHONUNBUFFERED": "1"}
    show(command, note=f"log: {log.relative_to(ROOT)}")
    last = ""
    with open(log, "w") as file:
        lock = threading.Lock()

        def write(line):
            with lock:
                print(prefix + line, flush=True)
                print(line, file=file, flush=True)

        process = subprocess.Popen(command, cwd=ROOT, env=env, text=True,
                                   errors="replace", stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        watchdog = Watchdog(name, minutes, mark, write)
        all_read = threading.Event()
        threading.Thread(target=end_orphans, args=(process, mark, all_read),
                         daemon=True).start()
        try:
            for line in process.stdout:
                line = line.rstrip("\n")
                write(line)
                if line.strip():
                    last = line.strip()
            all_read.set()
            status = process.wait()
        finally:
            watchdog.stop()
            left = hang.marked(mark)
            if left:
                write(f"{name}: left {len(left)} processes behind; killed")
                hang.kill(mark)
    match = LAST_LINE.fullmatch(last)
    if watchdog.expired:
        say(f"{name}: timed out")
        return (int(match[1]), int(match[2]) + 1) if match else (0, 1)
    if match is None:
        say(f"{name}: its last line is not 'N passed, N failed' (status {status})")
        return 0, 1
    passed, failed = int(match[1]), int(match[2])
    if bool(status) != bool(failed) or passed + failed == 0:
        say(f"{name}: exit status {status} with {passed} passed, {failed} failed")
        return passed, max(failed, 1)
    return passed, failed


def build_all():
    """The interpreters that checks use; returns an error's line or None."""
    try:
        for preset in PRESETS:
            interpreter.build(preset)
        # Another preset or allocator may be what build/python shows.
        interpreter.point_at((BUILD / "release/install/bin/python3").resolve())
    except Stop as stop:
        return str(stop)
    return None


def _main():
    parser = argparse.ArgumentParser(
        prog="build.sh test", description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", metavar="NAME,...", help="these checks alone")
    parser.add_argument("--list", action="store_true", help="print the checks' names")
    options = parser.parse_args()

    checks = find_checks()
    if options.list:
        for name, command, _ in checks:
            print(f"{name:16} {Path(command[0]).relative_to(ROOT)}")
        return 0
    if options.only:
        wanted = options.only.split(",")
        unknown = set(wanted) - {name for name, _, _ in checks}
        if unknown:
            raise Stop(f"no such check: {', '.join(sorted(unknown))}; there are "
                       + ", ".join(name for name, _, _ in checks))
        checks = [check for check in checks if check[0] in wanted]

    results = []

    def carry_out(when):
        for name, command, its in checks:
            if its == when:
                started = time.monotonic()
                prefix = f"{name}: " if when == BESIDE else ""
                passed, failed = run_check(name, command, prefix)
                results.append((name, passed, failed, time.monotonic() - started))

    carry_out(FIRST)
    with ThreadPoolExecutor(1) as beside:
        library = beside.submit(carry_out, BESIDE)
        error = None
        if any(when == WITH_BUILDS for _, _, when in checks):
            started = time.monotonic()
            error = build_all()
            results.append(("build", int(not error), int(bool(error)),
                            time.monotonic() - started))
        if error:
            say(error)
            for name, _, when in checks:
                if when == WITH_BUILDS:
                    say(f"{name}: not run, as the build has failed")
                    results.append((name, 0, 1, 0.0))
        else:
            carry_out(WITH_BUILDS)
        library.result()

    print()
    for name, passed, failed, seconds in results:
        print(f"{name:16} {passed:7} passed {failed:5} failed {seconds:7.0f} s")
    total_passed = sum(result[1] for result in results)
    total_failed = sum(result[2] for result in results)
    print(f"{total_passed} passed, {total_failed} failed")
    return 1 if total_failed else 0


if __name__ == "__main__":
    main(_main)

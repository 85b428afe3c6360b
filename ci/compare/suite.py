#!/usr/bin/env python3
"""Run CPython's test suite for a record, and compare records.

    suite.py run PYTHON -o RECORD [-- regrtest options]
    suite.py diff RECORD RECORD
    suite.py show RECORD [PATTERN]
    suite.py unstable RECORD RECORD ...

`run` writes the record of one run; ci/check-cpython does that for the patched
build and compares.  `unstable` prints the tests that several records of one
build do not agree on, in the form of ci/expected/unstable.txt with the reasons
left to be filled in.
"""

import argparse
import fnmatch
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from record import Record, differences

HERE = pathlib.Path(__file__).resolve().parent

# -u: the default, no special resources.  The seed is fixed so that two runs
# test the same thing.  Four files at a time for two processors, as many tests wait.
# A file that hangs is killed, with a traceback, after ten minutes: the slowest one
# takes two on an idle machine.
REGRTEST = ["-j4", "--randseed=20261122", "--timeout=600"]


def about(python):
    """What the results may depend on, for the head of a record."""
    code = """if True:
        import os, sys, sysconfig, platform
        var = sysconfig.get_config_var
        print("version", platform.python_version())
        print("gil", "no" if var("Py_GIL_DISABLED") else "yes")
        print("debug", "yes" if var("Py_DEBUG") else "no")
        print("in build tree", "yes" if sysconfig.is_python_build() else "no")
        print("root", "yes" if os.geteuid() == 0 else "no")
        print("machine", platform.machine(), platform.system())
        print("libc", *platform.libc_ver())
        """
    out = subprocess.run([python, "-c", code], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    return dict(line.replace("in build tree", "in-build-tree").split(" ", 1)
                for line in out.splitlines())


def bare_environment():
    """What proxies, colours, locales and PYTHON* of the caller can't change.

    VTHREADS_CHECK is by what ci/build/hang.py finds the processes of a check.
    """
    kept = "PATH", "HOME", "USER", "XDG_CACHE_HOME", "VTHREADS_CHECK"
    return {key: os.environ[key] for key in kept if key in os.environ} | {
        "LANG": "C.UTF-8"}


def run_suite(python, directory, options=(), tests=(), log=None, virtual=False):
    """Run regrtest of python; returns its Record.

    directory keeps what was recorded; log, a path, what regrtest printed.  virtual:
    with every threading.Thread virtual, on two carriers.
    """
    directory = pathlib.Path(directory)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    # A short path: tests bind Unix sockets below it (limit: 107 bytes).
    with tempfile.TemporaryDirectory(prefix="suite") as temp:
        command = [str(python), "-u",
                   str(HERE / "recorder.py"), str(directory),
                   *["--virtual"] * virtual, *REGRTEST, f"--tempdir={temp}", *options, *tests]
        print("+", " ".join(command), flush=True)
        env = bare_environment() | {"TMPDIR": temp}
        if virtual:
            env["PYTHON_VIRTUAL_THREADS"] = "2"
        with open(log or os.devnull, "w") as out:
            process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True)
            try:
                process.wait()
            except BaseException:
                # Workers have sessions of their own; regrtest ends them.
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                raise
    record = Record.collect(directory)
    record.about = about(python)
    if not record.outcomes:
        tail = pathlib.Path(log).read_text()[-2000:] if log else ""
        sys.exit(f"suite: {python} ran no test (exit {process.returncode})"
                 f"\n{tail}")
    return record


def show_difference(name, pair, labels, out=sys.stdout):
    a, b = pair
    print(f"  {name}: {labels[0]} {a or 'absent'}, {labels[1]} {b or 'absent'}",
          file=out)


def cmd_run(args):
    start = time.monotonic()
    keep = args.keep or tempfile.mkdtemp(prefix="record")
    record = run_suite(args.python, keep, args.options, log=args.log)
    record.save(args.output)
    if not args.keep:
        shutil.rmtree(keep)
    print(f"{record.count()} tests in {time.monotonic() - start:.0f} s"
          f" -> {args.output}")


def cmd_diff(args):
    a, b = Record.load(args.a), Record.load(args.b)
    found = differences(a, b)
    for name, pair in sorted(found.items()):
        show_difference(name, pair, ("first", "second"))
    same = len((a.outcomes.keys() | b.outcomes.keys()) - found.keys())
    print(f"{same} the same, {len(found)} not")
    return bool(found)


def cmd_show(args):
    record = Record.load(args.record)
    for name, outcome in sorted(record.outcomes.items()):
        line = f"{outcome}\t{name}"
        if fnmatch.fnmatch(line, f"*{args.pattern}*"):
            print(line)


def cmd_unstable(args):
    records = [Record.load(path) for path in args.records]
    names = set().union(*(r.outcomes for r in records))
    for name in sorted(names):
        seen = {r.outcomes.get(name, "absent") for r in records}
        if len(seen) > 1:
            print(name, ",".join(sorted(seen)), "?", sep="\t")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    sub = parser.add_subparsers(required=True)

    p = sub.add_parser("run")
    p.add_argument("python")
    p.add_argument("-o", "--output", required=True)
    p.add_argument("--keep", help="directory for what recorder.py writes")
    p.add_argument("--log", help="file for what regrtest prints")
    p.set_defaults(run=cmd_run)

    p = sub.add_parser("diff")
    p.add_argument("a")
    p.add_argument("b")
    p.set_defaults(run=cmd_diff)

    p = sub.add_parser("show")
    p.add_argument("record")
    p.add_argument("pattern", nargs="?", default="")
    p.set_defaults(run=cmd_show)

    p = sub.add_parser("unstable")
    p.add_argument("records", nargs="+")
    p.set_defaults(run=cmd_unstable)

    argv = sys.argv[1:]
    split = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:split])
    args.options = argv[split + 1:]
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())

"""Run CPython's regrtest and write down the outcome of every test method.

    PYTHON recorder.py RESULTS [--virtual] [regrtest options]

regrtest's own reports are not enough for a comparison test by test: its JUnit
file has no entry for what fails in a subtest, in setUpClass or in setUpModule,
loses a whole file when the worker dies, and capturing output for it changes the
environment of the tests.  So this program runs the unmodified regrtest and adds
to three of its methods: the command of a worker (to be present there), the
result class (to see each outcome), and the collection of results (to see the
state of each file).

Nothing is imported into the tests' child processes, no environment variable is
set and no descriptor stays open between two records: tests count descriptors,
close all of them and look at their environment.  Each record is one write(2) to
a file opened for it, so it survives whatever the test does to its process.

With --virtual, which goes with PYTHON_VIRTUAL_THREADS, test.support.script_helper
starts its children without -I and -E, by which they would not look at that variable.
Each worker sees first that every threading.Thread is virtual, in it and in such
children, and fails otherwise.

In RESULTS:
    PID.rec     one worker:  '=' TAB file      what it runs
                             '>' TAB id        a test has begun
                             OUTCOME TAB id    it has ended; outcomes below
    files.rec   the parent:  STATE TAB file TAB seconds
    PID.why     one worker:  tracebacks of failures, reasons of skips
Outcomes: ok fail error skip xfail uxpass.
"""

import functools
import json
import os
import sys

# Bound now: tests patch and close what they please.
_open, _write, _close, _getpid = os.open, os.write, os.close, os.getpid
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC

# A test with several outcomes (subtests, an error in tearDown) has the worst.
RANK = {"ok": 0, "xfail": 1, "skip": 2, "uxpass": 3, "fail": 4, "error": 5}


class Recorder:
    """Append-only records of one process; a forked child writes nothing."""

    def __init__(self, directory):
        self.pid = _getpid()
        self.path = os.path.join(directory, f"{self.pid}.rec")
        self.why = os.path.join(directory, f"{self.pid}.why")
        self.backlog = ""

    def put(self, kind, name):
        name = name.replace("\n", "\\n").replace("\t", "\\t")
        if _getpid() == self.pid:
            text = f"{self.backlog}{kind}\t{name}\n"
            # A test may have left no descriptor free: the next record retries.
            self.backlog = "" if append(self.path, text) else text

    def explain(self, kind, name, text):
        if _getpid() == self.pid:
            append(self.why, f"==== {kind} {name}\n{text}\n")


def append(path, text):
    try:
        fd = _open(path, _FLAGS, 0o644)
    except OSError:
        return False
    try:
        _write(fd, text.encode("utf-8", "backslashreplace"))
    finally:
        _close(fd)
    return True


def identify(test):
    # By the class: some tests have an attribute of their own called id.
    try:
        return str(type(test).id(test))
    except Exception:
        return str(test)


def observe(cls, recorder):
    """Make the result class cls report to recorder as well."""

    worst = {}

    def note(test, kind, text=""):
        name = identify(test)
        if text:
            recorder.explain(kind, name, text)
        if name in worst:
            if RANK[kind] > RANK[worst[name]]:
                worst[name] = kind
        else:                       # setUpClass, setUpModule: never started
            recorder.put(kind, name)

    def wrap(name, hook):
        inner = getattr(cls, name)

        @functools.wraps(inner)
        def method(self, test, *args):
            inner(self, test, *args)
            hook(self, test, *args)
        setattr(cls, name, method)

    def start(self, test):
        name = identify(test)
        worst[name] = "ok"
        recorder.put(">", name)

    def stop(self, test):
        name = identify(test)
        recorder.put(worst.pop(name, "ok"), name)

    def subtest(self, test, sub, err):
        if err is not None:
            bad = issubclass(err[0], test.failureException)
            list_ = self.failures if bad else self.errors
            note(test, "fail" if bad else "error",
                 f"{identify(sub)}\n{list_[-1][1]}")

    wrap("startTest", start)
    wrap("stopTest", stop)
    wrap("addSubTest", subtest)
    wrap("addError", lambda self, test, err:
         note(test, "error", self.errors[-1][1]))
    wrap("addFailure", lambda self, test, err:
         note(test, "fail", self.failures[-1][1]))
    wrap("addSkip", lambda self, test, reason:
         # A subtest that skips does not make its test a skipped one.
         note(test, "skip", reason) if not hasattr(test, "test_case") else None)
    wrap("addExpectedFailure", lambda self, test, err: note(test, "xfail"))
    wrap("addUnexpectedSuccess", lambda self, test: note(test, "uxpass"))


PROBE = """if True:
    import threading, virtual_threading
    def show():
        print("virtual:", virtual_threading.is_virtual())
    thread = threading.Thread(target=show)
    thread.start()
    thread.join()
    """


def make_virtual():
    """Threads of script_helper's children are virtual, too; SystemExit where any are not."""
    import threading
    import _vthread
    from test.support import script_helper
    # As where the interpreter does not start without its variables.
    script_helper.__cached_interp_requires_environment = True

    # Asked without a thread: tests fork, and count threads.
    said = {"the worker": threading._start_joinable_thread is _vthread.start_joinable_thread}
    for name, output in (
            ("assert_python_ok()", script_helper.assert_python_ok("-c", PROBE).out),
            ("spawn_python()", script_helper.kill_python(
                script_helper.spawn_python("-c", PROBE)))):
        said[name] = output == b"virtual: True\n"
    if not all(said.values()):
        sys.exit(f"recorder: are all threads virtual? {said}")


def as_module(name):
    # __main__ is the real module, found by name: multiprocessing's children
    # import it again, and must not import this file.
    import runpy
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def main():
    me, directory, *rest = sys.argv
    me, directory = os.path.abspath(me), os.path.abspath(directory)
    virtual = rest[:1] == ["--virtual"]
    rest = rest[virtual:]
    sys.path[0] = os.getcwd()       # as -m has it
    if "test.libregrtest.worker" in rest:
        from test.libregrtest.testresult import RegressionTestResult
        recorder = Recorder(directory)
        recorder.put("=", json.loads(rest[-1])["tests"][0])
        observe(RegressionTestResult, recorder)
        if virtual:
            make_virtual()
        sys.argv = [sys.argv[0], rest[-1]]
        as_module("test.libregrtest.worker")
        return

    from test.libregrtest.results import TestResults
    from test.libregrtest.runtests import RunTests
    create_python_cmd = RunTests.create_python_cmd
    accumulate_result = TestResults.accumulate_result

    def create(self):
        return [*create_python_cmd(self), me, directory, *["--virtual"] * virtual]

    def accumulate(self, result, runtests):
        accumulate_result(self, result, runtests)
        append(os.path.join(directory, "files.rec"),
               f"{result.state}\t{result.test_name}"
               f"\t{result.duration or 0:.3f}\n")

    RunTests.create_python_cmd = create
    TestResults.accumulate_result = accumulate
    os.makedirs(directory, exist_ok=True)
    sys.argv = [sys.argv[0], *rest]
    as_module("test")


if __name__ == "__main__":
    main()

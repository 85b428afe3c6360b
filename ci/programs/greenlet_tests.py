"""greenlet's own tests, on platform threads, but for two that fail or hang on stock too, and one
that wants no page more after a thread than before."""

import os
import subprocess
import sys
import unittest
from pathlib import Path

import greenlet.tests

LEFT_OUT = {
    # With greenlet 3.2.2 on unpatched CPython 3.13.15, free-threaded: fails, hangs.
    "test_dealloc_other_thread",
    "test_issue_245_reference_counting_subclass_threads",
    # Ends when it once finds no more memory in use after a thread than there was before one.  Of
    # 50 MB some 0.5 more are seen until the next thread begins, 0.1 to 0.3 on stock, in both
    # builds as much after 8 threads as after 3.
    "test_untracked_memory_doesnt_increase_unfinished_thread_dealloc_in_main",
}


def cases(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from cases(test)
        elif test.id().rpartition(".")[2] not in LEFT_OUT:
            yield test


def run():
    names = [f"greenlet.tests.{file.stem}"
             for file in sorted(Path(greenlet.tests.__path__[0]).glob("test_*.py"))]
    found = unittest.defaultTestLoader.loadTestsFromNames(names)
    result = unittest.TextTestRunner().run(unittest.TestSuite(cases(found)))
    return not result.wasSuccessful() or result.testsRun < 100


if __name__ == "__main__":
    if sys.argv[1:] == ["here"]:
        sys.exit(run())
    # In a process whose threads are platform threads, as greenlets are refused in others; and
    # without counts of all objects, which are not exact there (eight tests fail on stock).
    sys.exit(subprocess.run([sys.executable, "-W", "ignore", __file__, "here"],
                            env=os.environ | {"GREENLET_SKIP_LEAKCHECKS": "1"}).returncode)

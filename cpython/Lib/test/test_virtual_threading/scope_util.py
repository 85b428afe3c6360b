"""What the tests of TaskScope share."""

import functools
import time

from test.test_virtual_threading.util import LONG, TestCase
from virtual_threading import spawn


class MyError(Exception):
    pass


class MyBaseError(BaseException):
    pass


def both(method):
    """Runs a test in a virtual thread and in a platform thread."""
    @functools.wraps(method)
    def run(self):
        with self.subTest("platform"):
            method(self)
        with self.subTest("virtual"):
            self.call(method, self)
    return run


def sleep():
    time.sleep(LONG)


def crash():
    1/0


class ScopeTestCase(TestCase):

    def error_types(self, group):
        return sorted(type(exc).__name__ for exc in group.exceptions)

    def interrupting(self, func, ready):
        """Runs func in a virtual thread that is interrupted; what it raises."""
        outcome = []

        def run():
            try:
                outcome.append(func())
            except BaseException as exc:
                outcome.append(exc)

        thread = spawn(run)
        self.wait_until(ready, "ready to be interrupted")
        self.wait_until(lambda: thread.state in ("parked", "pinned"), "a parked body")
        thread.interrupt()
        self.join([thread])
        return outcome.pop()

"""What the tests share: waiting for states, and the question "does it park?".

A test that hangs prints a dump of the virtual threads before it fails.  A virtual
thread that dies of an exception fails the test that started it.
"""

import contextlib
import errno
import functools
import gc
import io
import sys
import threading
import traceback
import unittest

import virtual_threading
from test import support
from test.support import threading_helper

# How many threads block at once: more than any test allows carriers for those that
# park.
COUNT = 40

# For what must happen at once: generous, as the machine may be slow.
TIMEOUT = support.LONG_TIMEOUT

# Seconds: longer than any test may take, and what is over soon.
LONG = 1000
SHORT = 0.01


def virtual(method):
    """Runs a test in a virtual thread."""
    @functools.wraps(method)
    def run(self):
        self.call(method, self)
    return run


class TestCase(unittest.TestCase):
    """Waits, and sees to it that no thread fails or stays."""

    def setUp(self):
        super().setUp()
        self.addCleanup(threading_helper.threading_cleanup,
                        *threading_helper.threading_setup())
        self._failures = []
        self._excepthook = threading.excepthook
        threading.excepthook = self._record_failure
        self.addCleanup(self._check_failures)

    def _record_failure(self, args):
        if args.exc_type is not SystemExit:
            self._failures.append(''.join(traceback.format_exception(args.exc_value)))

    def _check_failures(self):
        threading.excepthook = self._excepthook
        failures, self._failures = self._failures, []
        if failures:
            self.fail(f"{len(failures)} threads failed, the first one:\n{failures[0]}")

    def give_up(self, message):
        file = io.StringIO()
        virtual_threading.dump(file)
        print(file.getvalue(), file=sys.__stderr__, flush=True)
        self.fail(message)

    def wait_until(self, condition, what, delay=0.010):
        """Waits for a state that no event announces; delay before the first new look."""
        for _ in support.sleeping_retry(TIMEOUT, init_delay=delay, error=False):
            if condition():
                return
        self.give_up(f"not seen in {TIMEOUT} s: {what}")

    def make_event(self):
        """An event that is set at the latest when the test has ended."""
        event = threading.Event()
        self.addCleanup(event.set)
        return event

    @contextlib.contextmanager
    def setting(self, event):
        """Sets the event at the end of the block, so that what waits for it ends."""
        try:
            yield
        finally:
            event.set()

    def wait_for(self, event, what="an event"):
        if not event.wait(TIMEOUT):
            self.give_up(f"not seen in {TIMEOUT} s: {what}")

    def join(self, threads):
        for thread in threads:
            thread.join(TIMEOUT)
            if thread.is_alive():
                self.give_up(f"{thread} has not ended in {TIMEOUT} s")

    def call(self, func, /, *args, **kwargs):
        """Calls func in a virtual thread; its result, or its exception raised here."""
        return self.call_all([lambda: func(*args, **kwargs)])[0]

    def call_all(self, functions):
        """Calls each in a virtual thread of its own, all at once; their results."""
        results = [None] * len(functions)
        errors = []

        def run(index, function):
            try:
                results[index] = function()
            except BaseException as exc:
                errors.append(exc)

        self.join([virtual_threading.spawn(run, index, function)
                   for index, function in enumerate(functions)])
        if errors:
            try:
                raise errors[0]
            finally:
                errors.clear()
        return results

    @contextlib.contextmanager
    def blocked(self, block, *, count=COUNT, states=('parked',)):
        """Enters when count virtual threads are blocked in block() and another one runs.

        Leaves when they have ended, which the body must have made possible.  Yields
        the list of the results that block() is going to return.
        """
        results = []
        threads = [virtual_threading.spawn(lambda: results.append(block()))
                   for _ in range(count)]
        def all_blocked():
            found = {thread.state for thread in threads}
            if 'terminated' in found:
                self.give_up(f"threads ended instead of being {' or '.join(states)}")
            return found <= set(states)

        self.wait_until(all_blocked, f"{count} threads {' or '.join(states)}")
        self.assertEqual(results, [])
        self.assertEqual(self.call(int, "42"), 42)
        yield results
        self.join(threads)
        self.assertEqual(len(results), count)

    def check_parks(self, block, release, **kwargs):
        """count threads block, another one runs, release() lets them end.

        Returns what they returned.
        """
        try:
            with self.blocked(block, **kwargs) as results:
                release()
        except BaseException:
            # Threads that block for ever would keep the tests from ending.
            with contextlib.suppress(Exception):
                release()
            raise
        return results

    def check_close(self, block, close, *, count=COUNT):
        """count threads block on a descriptor; close() wakes them, with EBADF."""
        def blocked():
            try:
                return block()
            except OSError as exc:
                return exc.errno
        self.assertEqual(self.check_parks(blocked, close, count=count),
                         [errno.EBADF] * count)


class CollectorBeside:
    """Before a TestCase: a platform thread collects garbage as long as a test runs."""

    def setUp(self):
        over = threading.Event()
        self._collections = threading.Semaphore(0)

        def collect():
            while not over.wait(0.01):
                gc.collect()
                self._collections.release()

        # Its cleanups come last: a finalizer that it runs may wait for an event of the test.
        thread = threading.Thread(target=collect)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(over.set)
        self._was_blocked = False
        super().setUp()

    @contextlib.contextmanager
    def blocked(self, *args, **kwargs):
        """Once a test, enters when a collection has passed while all threads were blocked."""
        with super().blocked(*args, **kwargs) as results:
            if not self._was_blocked:
                self._was_blocked = True
                while self._collections.acquire(blocking=False):
                    pass
                # The one that goes on may have begun before.
                for _ in range(2):
                    if not self._collections.acquire(timeout=TIMEOUT):
                        self.give_up(f"no collection in {TIMEOUT} s")
            yield results

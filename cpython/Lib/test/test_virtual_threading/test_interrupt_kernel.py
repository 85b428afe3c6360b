"""Interrupts and timeouts of calls that block the OS thread: a signal ends them."""

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

import _vthread
from test.test_virtual_threading.interrupt_util import InterruptCase, Stop
from test.test_virtual_threading.util import COUNT, LONG, TIMEOUT
from virtual_threading import spawn, stats, timeout


class KernelCase(InterruptCase):

    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "file")

    def locked_file(self, count=1):
        """That many descriptors of a file which another one, self.owner, has locked."""
        self.owner, *files = [os.open(self.path, os.O_RDWR | os.O_CREAT)
                              for _ in range(count + 1)]
        for fd in (self.owner, *files):
            self.addCleanup(os.close, fd)
        fcntl.flock(self.owner, fcntl.LOCK_EX)
        return files

    def blocked_in_kernel(self, count):
        self.wait_until(lambda: stats()['carriers_blocked'] >= count, "calls that block")


class CallTests(KernelCase):

    def check(self, call):
        # Interrupted while it blocks, before it does, and by its time.
        entered, outcome = threading.Event(), []
        again = self.make_event()

        def run(wait_first):
            if wait_first:
                self.assertTrue(again.wait(TIMEOUT))
            entered.set()
            for expected, context in ((Stop, None), (TimeoutError, timeout(0.01))):
                with self.assertRaises(expected):
                    if context is None:
                        call()
                    else:
                        with context:
                            call()
                outcome.append(expected)

        for wait_first in (False, True):
            with self.subTest(before=wait_first):
                entered.clear()
                outcome.clear()
                thread = spawn(run, wait_first)
                if wait_first:
                    self.wait_blocked(thread)
                    again.set()
                self.wait_for(entered)
                if not wait_first:
                    self.blocked_in_kernel(1)
                self.assertTrue(thread.interrupt(Stop))
                self.join([thread])
                self.assertEqual(outcome, [Stop, TimeoutError])

    def test_flock(self):
        fd, = self.locked_file()
        self.check(lambda: fcntl.flock(fd, fcntl.LOCK_EX))

    def test_fifo(self):
        os.mkfifo(self.path)
        self.check(lambda: os.open(self.path, os.O_RDONLY))
        self.check(lambda: open(self.path, "wb"))

    def test_any_child(self):
        with subprocess.Popen([sys.executable, "-c", "input()"],
                              stdin=subprocess.PIPE) as child:
            self.check(os.wait)
            self.check(lambda: os.wait3(0))
            self.check(lambda: os.waitpid(-1, 0))
            child.communicate(b"\n")

    def test_signal(self):
        self.check(lambda: signal.sigwaitinfo([signal.SIGUSR1]))
        self.check(lambda: signal.sigtimedwait([signal.SIGUSR1], LONG))

    def test_semaphore_of_processes(self):
        try:
            lock = multiprocessing.get_context("fork").Lock()
        except (ImportError, OSError) as exc:
            self.skipTest(str(exc))
        with lock:
            self.check(lock.acquire)
            self.check(lambda: lock.acquire(timeout=LONG))


class RuleTests(KernelCase):

    def test_many(self):
        files = self.locked_file(COUNT)

        def run(fd):
            with self.assertRaises(Stop):
                fcntl.flock(fd, fcntl.LOCK_EX)

        threads = [spawn(run, fd) for fd in files]
        self.blocked_in_kernel(COUNT)
        for thread in threads:
            thread.interrupt(Stop)
        self.join(threads)

    def test_only_who_is_meant(self):
        # The knock of one ends no call of another one.
        first, second = self.locked_file(2)
        outcome = []

        def run(fd):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                outcome.append((fd, "locked"))
            except Stop:
                outcome.append((fd, "interrupted"))

        threads = [spawn(run, fd) for fd in (first, second)]
        self.blocked_in_kernel(2)
        threads[0].interrupt(Stop)
        self.join(threads[:1])
        self.assertEqual(outcome, [(first, "interrupted")])
        self.assertTrue(threads[1].is_alive())
        threads[1].interrupt(Stop)
        self.join(threads)
        self.assertEqual(outcome[1:], [(second, "interrupted")])

    def test_shield(self):
        fd, = self.locked_file()
        steps = []

        def run():
            _vthread.shield()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                steps.append("locked")
            finally:
                _vthread.unshield()
            with self.assertRaises(Stop):
                threading.Event().wait(TIMEOUT)
            steps.append("interrupted")

        thread = spawn(run)
        self.blocked_in_kernel(1)
        thread.interrupt(Stop)
        probe = spawn(int)              # others run, and the monitor has looked
        self.join([probe])
        self.assertEqual(steps, [])
        fcntl.flock(self.owner, fcntl.LOCK_UN)
        self.join([thread])
        self.assertEqual(steps, ["locked", "interrupted"])

    def test_call_that_ends_first(self):
        # What it has brought is kept; the next call raises.
        fd, = self.locked_file()
        got = []

        def run():
            got.append(len(os.urandom(1 << 20)))
            with self.assertRaises(Stop):
                fcntl.flock(fd, fcntl.LOCK_EX)

        thread = spawn(run)
        thread.interrupt(Stop)
        self.join([thread])
        self.assertEqual(got, [1 << 20])


if __name__ == "__main__":
    unittest.main()

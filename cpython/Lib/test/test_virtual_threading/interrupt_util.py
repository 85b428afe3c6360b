"""What the tests of Thread.interrupt() share."""

import threading

from test.test_virtual_threading.util import TIMEOUT, TestCase
from virtual_threading import Interrupted, spawn


class Stop(Exception):
    pass


class InterruptCase(TestCase):

    def wait_blocked(self, thread):
        self.wait_until(lambda: thread.state in ('parked', 'pinned'), "a blocked thread")

    def check_interrupt(self, block, exc=Interrupted):
        """block() is interrupted, and the thread can block again then."""
        outcome = []
        again = threading.Event()

        def run():
            try:
                outcome.append(block())
            except exc if isinstance(exc, type) else type(exc) as error:
                outcome.append(error)
            if not again.wait(TIMEOUT):
                outcome.append("second wait failed")

        thread = spawn(run)
        with self.setting(again):
            self.wait_blocked(thread)
            self.assertTrue(thread.interrupt(exc))
            self.wait_until(lambda: outcome, "the interrupt")
        self.join([thread])
        self.assertEqual(len(outcome), 1, outcome)
        self.assertIsInstance(outcome[0], exc if isinstance(exc, type) else type(exc))
        return outcome[0]

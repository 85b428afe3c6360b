"""What the tests of Thread.interrupt() share."""

import os
import threading

from test.support import import_helper, os_helper
from test.test_virtual_threading.util import TIMEOUT, TestCase
from virtual_threading import Interrupted, spawn


class Stop(Exception):
    pass


importing = threading.Event()
import_on = threading.Event()


class InterruptCase(TestCase):

    def make_blocking_module(self, name="interrupted_import"):
        """A module that sets importing, and whose import ends when import_on is set."""
        directory = self.enterContext(os_helper.temp_dir())
        with open(os.path.join(directory, f"{name}.py"), "w") as file:
            file.write(f"import {__name__} as util\n"
                       "util.importing.set()\n"
                       "util.import_on.wait()\n"
                       "x = 42\n")
        self.enterContext(import_helper.DirsOnSysPath(directory))
        self.addCleanup(import_helper.unload, name)
        importing.clear()
        import_on.clear()
        return name

    def wait_blocked(self, thread):
        self.wait_until(lambda: thread.state in ('parked', 'pinned', 'terminated'),
                        "a blocked thread", delay=0.001)
        self.assertTrue(thread.is_alive(), "it ended instead of being blocked")

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

"""What the tests of waits without a native stack share.

Each case runs twice, with soft parks and without, and must do the same: results,
tracebacks, events, references.  A case says whether its waits are soft ones.
"""

import _vthread
import contextlib

import virtual_threading
from test.test_virtual_threading.socket_util import SocketTestCase
from test.test_virtual_threading.util import COUNT, TestCase


def soft_parks():
    return virtual_threading.stats()['soft_parks']


class SoftTestCase(TestCase):

    @contextlib.contextmanager
    def enabled(self, enable):
        before = _vthread.enable_soft_park(enable)
        try:
            yield
        finally:
            _vthread.enable_soft_park(before)

    def both_ways(self, func, soft=True, least=1):
        """Calls func() with soft parks, `least` at least, and without.

        Both must return the same, which this returns.  With soft=False no park is a
        soft one in either case.
        """
        with self.enabled(False):
            before = soft_parks()
            expected = func()
            self.assertEqual(soft_parks() - before, 0)
        with self.enabled(True):
            before = soft_parks()
            found = func()
            parks = soft_parks() - before
        self.assertEqual(found, expected)
        if soft:
            self.assertGreaterEqual(parks, least)
        else:
            self.assertEqual(parks, 0)
        return found

    def check(self, make, soft=True):
        """make() returns (block, release); threads that are in block() park."""
        def run():
            block, release = make()
            return self.check_parks(block, release)
        return self.both_ways(run, soft, least=COUNT)


class SoftSocketTestCase(SocketTestCase, SoftTestCase):

    def interrupted(self, block):
        """What block() does that raises ValueError() while it waits: its result."""
        results = []
        thread = virtual_threading.spawn(lambda: results.append(block()))
        self.wait_until(lambda: thread.state == 'parked', "the thread parked")
        thread.interrupt(ValueError(1))
        self.join([thread])
        return results[0]

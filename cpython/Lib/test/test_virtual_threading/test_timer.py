"""virtual_threading.Timer: threading.Timer on a virtual thread."""

import threading
import unittest

import virtual_threading
from test.test_virtual_threading.util import TIMEOUT, TestCase
from virtual_threading import Timer


class TimerTests(TestCase):

    def test_runs(self):
        seen = []
        done = self.make_event()

        def function(*args, **kwargs):
            seen.append((args, kwargs, virtual_threading.is_virtual()))
            done.set()

        timer = Timer(0.01, function, [1], {'a': 2})
        self.assertIsInstance(timer, threading.Timer)
        self.assertIsInstance(timer, virtual_threading.Thread)
        timer.start()
        self.wait_for(done)
        self.join([timer])
        self.assertEqual(seen, [((1,), {'a': 2}, True)])

    def test_cancel(self):
        seen = []
        timer = Timer(TIMEOUT * 10, seen.append, [1])
        timer.start()
        timer.cancel()
        self.join([timer])
        self.assertEqual(seen, [])

    def test_cancel_before_start(self):
        seen = []
        timer = Timer(0, seen.append, [1])
        timer.cancel()
        timer.start()
        self.join([timer])
        self.assertEqual(seen, [])

    def test_arguments_are_not_shared(self):
        first, second = Timer(1, int), Timer(1, int)
        first.args.append(1)
        first.kwargs['a'] = 1
        self.assertEqual((second.args, second.kwargs), ([], {}))

    def test_order(self):
        # The one that starts earlier has the longer interval.
        seen = []
        late = self.make_event()
        timers = [Timer(0.2, lambda: (seen.append("late"), late.set())),
                  Timer(0.0, seen.append, ["soon"])]
        for timer in timers:
            timer.start()
        self.wait_for(late)
        self.join(timers)
        self.assertEqual(seen, ["soon", "late"])


if __name__ == "__main__":
    unittest.main()

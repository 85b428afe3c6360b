"""A thread that computes does not starve others: it is preempted."""

import threading
import time
import unittest

from test.test_virtual_threading.util import TestCase
from virtual_threading import spawn, stats


class PreemptionTests(TestCase):

    def hogs(self, stop):
        # More of them than slots.  None of them ever waits.
        def compute():
            while not stop:
                sum(range(1000))

        return [spawn(compute) for _ in range(2 * stats()['parallelism'] + 2)]

    def check_progress(self, work):
        """work() ends although threads that never wait are on all carriers."""
        stop = []
        hogs = self.hogs(stop)
        try:
            self.join([spawn(work) for _ in range(5)])
        finally:
            stop.append(1)
            self.join(hogs)

    def test_computing(self):
        self.check_progress(lambda: sum(range(1000)))

    def test_sleeping(self):
        self.check_progress(lambda: [time.sleep(0.001) for _ in range(10)])

    def test_locks(self):
        lock = threading.Lock()

        def work():
            for _ in range(100):
                with lock:
                    pass

        self.check_progress(work)

    def test_stopped_by_another_virtual_thread(self):
        # Nothing but a virtual thread can end the hogs, and it is started last.
        stop = []
        hogs = self.hogs(stop)
        last = spawn(stop.append, 1)
        self.join([last, *hogs])

    def test_loop_without_calls(self):
        stopped = False
        started = self.make_event()

        def compute():
            started.set()
            while not stopped:
                pass

        def stop():
            nonlocal stopped
            stopped = True

        hogs = [spawn(compute) for _ in range(2 * stats()['parallelism'] + 2)]
        self.wait_for(started)
        self.join([spawn(stop), *hogs])

    def test_state_survives(self):
        # Preempted at any place, each computes what it would alone.
        def compute(seed):
            found = {}
            for number in range(seed, seed + 20_000):
                try:
                    found[number % 97] = found.get(number % 97, 0) + number * number
                    if number % 1000 == 0:
                        raise ValueError(number)
                except ValueError as exc:
                    found[-1] = exc.args[0]
            return found

        expected = [compute(seed) for seed in range(20)]
        results = self.call_all([lambda n=n: compute(n) for n in range(20)])
        self.assertEqual(results, expected)


if __name__ == "__main__":
    unittest.main()

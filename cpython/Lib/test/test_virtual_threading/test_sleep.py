"""time.sleep(), and giving way to others."""

import os
import time
import unittest

import virtual_threading
from test.test_virtual_threading.util import TestCase


class SleepTests(TestCase):

    def test_parks(self):
        # Long enough for all of them to be asleep at the same time.
        with self.blocked(lambda: time.sleep(3), count=20):
            pass

    def test_not_too_short(self):
        def sleep(seconds):
            start = time.monotonic()
            time.sleep(seconds)
            return time.monotonic() - start

        asked = [0.0001, 0.001, 0.01, 0.05, 0.1] * 10
        slept = self.call_all([lambda s=s: sleep(s) for s in asked])
        for seconds, took in zip(asked, slept):
            self.assertGreaterEqual(took, seconds)

    def test_none_is_lost(self):
        count = 1000
        done = self.call_all([lambda: time.sleep(0.01) for _ in range(count)])
        self.assertEqual(done, [None] * count)

    def test_over_before_it_begins(self):
        # As short as it takes to begin the wait, so that some end before.
        def sleep():
            for i in range(5000):
                time.sleep(i % 3000 * 1e-9)

        def pinned():
            with virtual_threading.pin():
                sleep()

        self.assertEqual(self.call_all([sleep, pinned, sleep, pinned]), [None] * 4)

    def test_bad_arguments(self):
        for bad in (-1, -0.1, float("nan"), "1", None, 1e30, float("inf")):
            with self.subTest(bad=bad):
                with self.assertRaises((ValueError, TypeError, OverflowError)) as here:
                    time.sleep(bad)
                with self.assertRaises(type(here.exception)) as there:
                    self.call(time.sleep, bad)
                self.assertEqual(str(there.exception), str(here.exception))

    def test_platform_threads_sleep_as_before(self):
        start = time.monotonic()
        time.sleep(0.02)
        time.sleep(0)
        os.sched_yield()
        self.assertGreaterEqual(time.monotonic() - start, 0.02)


class YieldTests(TestCase):

    def check_gives_way(self, give_way):
        parallelism = virtual_threading.stats()["parallelism"]
        self.addCleanup(virtual_threading.configure, parallelism=parallelism)
        virtual_threading.configure(parallelism=1)
        turns = []

        def take_turns(me, rounds=100):
            for _ in range(rounds):
                while len(turns) % 2 != me:
                    give_way()
                turns.append(me)

        self.call_all([lambda: take_turns(0), lambda: take_turns(1)])
        self.assertEqual(turns, [0, 1] * 100)

    def test_sched_yield(self):
        self.check_gives_way(os.sched_yield)

    def test_sleep_zero(self):
        self.check_gives_way(lambda: time.sleep(0))


if __name__ == "__main__":
    unittest.main()

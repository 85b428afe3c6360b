"""Very many threads."""

import threading
import time
import unittest
from test import support

import virtual_threading
from test.test_virtual_threading.util import LONG, TestCase
from virtual_threading import configure, spawn, stats

# A debug build is slow; sanitizers need much memory for each.
MANY = 20_000 if support.Py_DEBUG or support.check_sanitizer(
    address=True, memory=True, ub=True, thread=True) else 100_000


class ManyTests(TestCase):

    def check_all_parked(self, block, release):
        counted = 0
        lock = threading.Lock()

        def run():
            nonlocal counted
            block()
            with lock:
                counted += 1

        threads = [spawn(run) for _ in range(MANY)]
        self.wait_until(lambda: stats()['threads'].get('parked', 0) >= MANY,
                        f"{MANY} parked threads")
        self.assertEqual(self.call(int, "42"), 42)
        with open("/proc/self/status") as file:
            os_threads = next(int(line.split()[1]) for line in file
                              if line.startswith("Threads:"))
        self.assertLess(os_threads, 300)
        release()
        self.join(threads)
        self.assertEqual(counted, MANY)

    def test_one_lock(self):
        lock = threading.Lock()
        lock.acquire()

        def block():
            with lock:
                pass

        self.check_all_parked(block, lock.release)

    def test_one_event(self):
        event = self.make_event()
        self.check_all_parked(event.wait, event.set)

    def test_locks_of_their_own(self):
        locks = []

        def block():
            lock = threading.Lock()
            lock.acquire()
            locks.append(lock)
            lock.acquire()

        def release():
            for lock in locks:
                lock.release()

        self.check_all_parked(block, release)

    def test_sleep(self):
        # Longer than it takes to start them all, of which a trial gives an idea.
        begin = time.monotonic()
        self.join([spawn(time.sleep, 0) for _ in range(MANY // 50)])
        seconds = 2 + 100 * (time.monotonic() - begin)
        self.join([spawn(time.sleep, seconds) for _ in range(MANY)])

    def test_sleep_below_c(self):
        # They don't hold the only carrier: all sleep at the same time.
        count = MANY // 10
        self.addCleanup(configure, parallelism=stats()['parallelism'])
        configure(parallelism=1)
        asleep, woken = [], []

        class WakeUp(Exception):
            pass

        def sleepy(seconds):
            asleep.append(1)
            time.sleep(seconds)

        def run():
            try:
                list(map(sleepy, [LONG]))
            except WakeUp:
                woken.append(1)

        threads = [spawn(run) for _ in range(count)]
        try:
            self.wait_until(lambda: stats()['threads']['parked'] >= count, f"{count} asleep")
            self.assertEqual(len(asleep), count)
            self.assertEqual(woken, [])
            self.assertEqual(self.call(int, "42"), 42)
        finally:
            for thread in threads:
                thread.interrupt(WakeUp())
            self.join(threads)
        self.assertEqual(len(woken), count)

    def test_chain(self):
        # Each waits for the one before it.
        def run(before):
            if before is not None:
                before.join()

        thread = None
        for _ in range(MANY):
            thread = spawn(run, thread)
        self.join([thread])

    def test_short_lived(self):
        counts = [0] * 100

        def run(index):
            counts[index % 100] += 1

        for start in range(0, MANY, 1000):
            self.join([spawn(run, 0) if index % 100 == 0 else spawn(int)
                       for index in range(start, start + 1000)])
        self.assertEqual(stats()['threads'].get('parked', 0), 0)

    def test_enumerate(self):
        event = self.make_event()
        before = threading.active_count()
        threads = [spawn(event.wait) for _ in range(MANY // 10)]
        self.assertEqual(threading.active_count(), before + len(threads))
        self.assertTrue(set(threads) <= set(threading.enumerate()))
        event.set()
        self.join(threads)
        self.assertFalse(virtual_threading.is_virtual())


if __name__ == "__main__":
    unittest.main()

"""Every lock and queue parks: more threads than carriers wait, and others run."""

import importlib
import os
import queue
import sys
import threading
import time
import unittest
from concurrent import futures
from test.support import import_helper, os_helper

import virtual_threading
from test.test_virtual_threading.util import COUNT, TIMEOUT, TestCase
from virtual_threading import spawn


class LockTests(TestCase):

    def check_lock(self, lock):
        lock.acquire()

        def block():
            with lock:
                return 1

        self.assertEqual(self.check_parks(block, lock.release), [1] * COUNT)
        self.assertTrue(lock.acquire(blocking=False))
        lock.release()

    def test_lock(self):
        self.check_lock(threading.Lock())

    def test_rlock(self):
        self.check_lock(threading.RLock())

    def test_python_rlock(self):
        self.check_lock(threading._PyRLock())

    def check_timeouts(self, lock):
        # Many time out, and the lock is as it was.
        lock.acquire()
        self.assertEqual(self.call_all([lambda: lock.acquire(timeout=0.01)] * COUNT),
                         [False] * COUNT)
        lock.release()
        results = self.call_all([lambda: lock.acquire(timeout=TIMEOUT)])
        self.assertEqual(results, [True])

    def test_lock_timeout(self):
        self.check_timeouts(threading.Lock())

    def test_rlock_timeout(self):
        self.check_timeouts(threading.RLock())

    def test_timeout_that_is_not_reached(self):
        lock = threading.Lock()
        lock.acquire()

        def block():
            acquired = lock.acquire(timeout=TIMEOUT)
            lock.release()
            return acquired

        self.assertEqual(self.check_parks(block, lock.release), [True] * COUNT)

    def test_rlock_belongs_to_the_virtual_thread(self):
        # Many virtual threads on one carrier are not one thread.
        lock = threading.RLock()

        def run():
            with lock, lock:
                self.assertTrue(lock._is_owned())
                virtual_threading.yield_now()
                self.assertTrue(lock._is_owned())
            self.assertFalse(lock._is_owned())
            self.assertRaises(RuntimeError, lock.release)

        self.call_all([run] * COUNT)

    def test_exclusion(self):
        for lock in (threading.Lock(), threading.RLock(), threading.Semaphore()):
            count = 0

            def run():
                nonlocal count
                for _ in range(100):
                    with lock:
                        before = count
                        virtual_threading.yield_now()
                        count = before + 1

            self.call_all([run] * 20)
            self.assertEqual(count, 2000)

    def test_between_virtual_and_platform_threads(self):
        lock = threading.Lock()
        count = 0

        def run():
            nonlocal count
            for _ in range(200):
                with lock:
                    count += 1

        threads = [cls(target=run) for _ in range(4)
                   for cls in (threading.Thread, virtual_threading.Thread)]
        for thread in threads:
            thread.start()
        self.join(threads)
        self.assertEqual(count, 1600)


class ConditionTests(TestCase):

    def test_event(self):
        event = self.make_event()
        self.assertEqual(self.check_parks(event.wait, event.set), [True] * COUNT)

    def test_event_timeout(self):
        event = self.make_event()
        self.assertEqual(self.call_all([lambda: event.wait(0.01)] * COUNT),
                         [False] * COUNT)
        self.assertEqual(self.check_parks(lambda: event.wait(TIMEOUT), event.set),
                         [True] * COUNT)

    def test_event_set_by_a_virtual_thread(self):
        event = self.make_event()
        self.check_parks(event.wait, lambda: self.call(event.set))

    def test_condition(self):
        condition = threading.Condition()

        def block():
            with condition:
                return condition.wait()

        def release():
            with condition:
                condition.notify_all()

        self.check_parks(block, release)

    def test_condition_notify_one(self):
        condition = threading.Condition()
        tickets = 0

        def block():
            nonlocal tickets
            with condition:
                condition.wait_for(lambda: tickets > 0)
                tickets -= 1

        def release():
            nonlocal tickets
            for _ in range(COUNT):
                with condition:
                    tickets += 1
                    condition.notify()

        self.check_parks(block, release)

    def test_semaphores(self):
        for cls in (threading.Semaphore, threading.BoundedSemaphore):
            semaphore = cls(1)
            semaphore.acquire()

            def block():
                with semaphore:
                    pass

            self.check_parks(block, semaphore.release)

    def test_barrier(self):
        barrier = threading.Barrier(COUNT + 1)
        results = self.check_parks(barrier.wait, barrier.wait)
        self.assertEqual(len(set(results)), COUNT)

    def test_barrier_abort(self):
        barrier = threading.Barrier(COUNT + 1)

        def block():
            with self.assertRaises(threading.BrokenBarrierError):
                barrier.wait()

        self.check_parks(block, barrier.abort)

    def test_join(self):
        event = self.make_event()
        thread = spawn(event.wait)
        self.check_parks(thread.join, event.set)

    def test_join_platform_thread(self):
        event = self.make_event()
        thread = threading.Thread(target=event.wait)
        thread.start()
        self.check_parks(thread.join, event.set)
        thread.join()

    def test_join_timeout(self):
        event = self.make_event()
        thread = spawn(event.wait)
        self.call_all([lambda: thread.join(0.01)] * COUNT)
        event.set()
        self.join([thread])

    def test_future(self):
        future = futures.Future()
        self.assertEqual(self.check_parks(future.result,
                                          lambda: future.set_result(5)),
                         [5] * COUNT)

    def test_future_timeout(self):
        future = futures.Future()

        def block():
            with self.assertRaises(TimeoutError):
                future.result(0.01)

        self.call_all([block] * COUNT)

    def test_local_is_not_shared(self):
        # See test_locals for more.
        local = threading.local()
        barrier = threading.Barrier(COUNT)

        def run(value):
            local.value = value
            barrier.wait()
            return local.value

        results = self.call_all([lambda n=n: run(n) for n in range(COUNT)])
        self.assertEqual(results, list(range(COUNT)))


class QueueTests(TestCase):

    def queues(self):
        for cls in (queue.Queue, queue.LifoQueue, queue.PriorityQueue,
                    queue.SimpleQueue, queue._PySimpleQueue):
            with self.subTest(cls.__name__):
                yield cls

    def test_get(self):
        for cls in self.queues():
            items = cls()

            def release():
                for number in range(COUNT):
                    items.put(number)

            results = self.check_parks(items.get, release)
            self.assertEqual(sorted(results), list(range(COUNT)))

    def test_get_timeout(self):
        for cls in self.queues():
            items = cls()

            def block():
                with self.assertRaises(queue.Empty):
                    items.get(timeout=0.01)

            self.call_all([block] * COUNT)
            items.put(1)
            self.assertEqual(self.call(items.get, timeout=TIMEOUT), 1)

    def test_put(self):
        items = queue.Queue(1)
        items.put(0)

        def release():
            for _ in range(COUNT):
                items.get()

        self.check_parks(lambda: items.put(1), release)

    def test_join(self):
        items = queue.Queue()
        items.put(1)
        self.check_parks(items.join, items.task_done)

    def test_shutdown(self):
        items = queue.Queue()

        def block():
            with self.assertRaises(queue.ShutDown):
                items.get()

        self.check_parks(block, items.shutdown)

    def test_ping_pong(self):
        for cls in (queue.SimpleQueue, queue.Queue):
            there, back = cls(), cls()

            def echo():
                while (item := there.get()) is not None:
                    back.put(item)

            def play():
                for number in range(2000):
                    there.put(number)
                    self.assertEqual(back.get(), number)
                there.put(None)

            self.call_all([echo, play])

    def test_pipeline(self):
        # Each item passes through a chain of threads.
        queues = [queue.SimpleQueue() for _ in range(50)]

        def step(source, target):
            while True:
                item = source.get()
                target.put(item)
                if item is None:
                    return

        threads = [spawn(step, *pair) for pair in zip(queues, queues[1:])]
        for number in range(100):
            queues[0].put(number)
        queues[0].put(None)
        self.assertEqual([queues[-1].get(timeout=TIMEOUT) for _ in range(101)],
                         [*range(100), None])
        self.join(threads)


class HiddenLockTests(TestCase):
    """Locks that the program does not see."""

    def test_import_lock(self):
        # All import a module whose code waits; one executes it, the others wait for
        # the lock of the module.
        source = "import sys\nsys.vt_entered.set()\nsys.vt_event.wait()\nvalue = 42\n"
        name = "vt_test_blocking_module"
        sys.vt_event = self.make_event()
        sys.vt_entered = self.make_event()
        self.addCleanup(delattr, sys, 'vt_event')
        self.addCleanup(delattr, sys, 'vt_entered')
        with os_helper.temp_cwd() as directory, import_helper.DirsOnSysPath(directory):
            with open(name + ".py", "w") as file:
                file.write(source)
            importlib.invalidate_caches()
            self.addCleanup(import_helper.unload, name)
            results = self.check_parks(lambda: importlib.import_module(name).value,
                                       sys.vt_event.set)
        self.assertEqual(results, [42] * COUNT)

    def test_buffered_io_lock(self):
        # One reads from the pipe with the lock held, the others wait for the lock.
        read, write = os.pipe()
        with open(read, 'rb') as reader, open(write, 'wb', buffering=0) as writer:
            results = self.check_parks(lambda: reader.read(1),
                                       lambda: writer.write(b"x" * COUNT))
        self.assertEqual(results, [b"x"] * COUNT)

    def test_critical_section(self):
        # list.sort() holds the list's, and gives it up while its key function waits.
        event = self.make_event()
        numbers = [3, 1, 2]

        def key(number):
            event.wait()
            return number

        thread = spawn(numbers.sort, key=key)
        self.wait_until(lambda: thread.state == "parked", "parked")
        self.call_all([lambda: numbers.count(1)] * COUNT)
        event.set()
        self.join([thread])
        self.assertEqual(numbers, [1, 2, 3])


class SleepTests(TestCase):

    def test_parks(self):
        # However long others sleep, one more thread runs.
        threads = [spawn(time.sleep, 2) for _ in range(COUNT)]
        self.wait_until(lambda: all(t.state == "parked" for t in threads), "parked")
        self.assertEqual(self.call(int, "42"), 42)
        self.join(threads)

    def test_does_not_return_early(self):
        def sleep():
            begin = time.monotonic()
            time.sleep(0.05)
            return time.monotonic() - begin

        for seconds in self.call_all([sleep] * COUNT):
            self.assertGreaterEqual(seconds, 0.05)

    def test_all_at_once(self):
        # One after the other they would take longer than the test may.
        self.call_all([lambda: time.sleep(0.5)] * 5000)

    def test_order(self):
        seen = []

        def sleep(number):
            time.sleep(number * 0.1)
            seen.append(number)

        self.call_all([lambda n=n: sleep(n) for n in (5, 1, 3)])
        self.assertEqual(seen, [1, 3, 5])

    def test_zero(self):
        for seconds in (0, 0.0, 1e-9):
            self.call(time.sleep, seconds)
        self.assertRaises(ValueError, self.call, time.sleep, -1)


if __name__ == "__main__":
    unittest.main()

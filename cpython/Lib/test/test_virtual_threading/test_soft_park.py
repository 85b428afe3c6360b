"""Sleeps, joins and queues without a native stack, and what is built of them."""

import concurrent.futures
import contextvars
import functools
import queue
import threading
import time
import traceback
import unittest

import virtual_threading
from test.test_virtual_threading.soft_util import SoftTestCase, soft_parks
from test.test_virtual_threading.util import COUNT, TIMEOUT
from virtual_threading import spawn, yield_now


class OtherWaitsTests(SoftTestCase):

    def test_sleep(self):
        sleep = time.sleep
        def wait():
            return (time.sleep(0.001), sleep(0.001), sleep(*(0.001,)), sleep(0),
                    time.monotonic())
        def run():
            before = time.monotonic()
            result = self.call(wait)
            self.assertGreaterEqual(result[-1] - before, 0.003)
            return result[:-1]
        self.assertEqual(self.both_ways(run), (None,) * 4)

    def test_sleep_errors(self):
        def wait(value):
            try:
                time.sleep(value)
            except (ValueError, TypeError, OverflowError) as exc:
                return repr(exc)
        for value in (-1, "a", None, float("nan"), 1e100):
            self.assertTrue(self.both_ways(lambda: self.call(wait, value), soft=False))

    def test_many_sleeps(self):
        # Nothing adds up: depth of recursion, data stack, entry frames.
        def depth(n=0):
            try:
                return depth(n + 1)
            except RecursionError:
                return n
        def wait():
            before = depth()
            for _ in range(4000):
                time.sleep(1e-7)
            return depth() - before
        self.assertEqual(self.both_ways(lambda: self.call(wait)), 0)

    def test_yield(self):
        def run():
            turns = []
            def wait(number):
                for _ in range(100):
                    turns.append(number)
                    if yield_now() is not None:
                        turns.append("not None")
            self.call_all([lambda n=n: wait(n) for n in range(COUNT)])
            return sorted(turns)
        self.assertEqual(self.both_ways(run), sorted([*range(COUNT)] * 100))

    def test_interrupted_yield(self):
        def wait():
            virtual_threading.current_thread().interrupt(KeyError(1))
            try:
                while True:
                    yield_now()
            except KeyError as exc:
                return repr(exc)
        def run():
            return self.call_all([wait] * 10)
        self.assertEqual(self.both_ways(run, least=0), ["KeyError(1)"] * 10)

    def test_join(self):
        def make():
            event = threading.Event()
            thread = spawn(event.wait)
            def block():
                return thread.join(), thread.is_alive()
            return block, event.set
        self.assertEqual(set(self.check(make)), {(None, False)})

    def test_join_of_platform_thread(self):
        def make():
            event = threading.Event()
            thread = threading.Thread(target=event.wait)
            thread.start()
            return (lambda: (thread.join(), thread.is_alive())), event.set
        self.check(make)

    def test_join_timeout_and_errors(self):
        event = self.make_event()
        thread = spawn(event.wait)
        def wait():
            log = [thread.join(0.001), thread.is_alive(), thread.join(0)]
            for handle in (threading.current_thread()._handle,
                           threading._ThreadHandle()):
                try:
                    handle.join()
                except RuntimeError as exc:
                    log.append(repr(exc))
            return log
        self.both_ways(lambda: self.call(wait))
        event.set()
        self.join([thread])

    def test_made_of_locks(self):
        def event():
            event = threading.Event()
            return (lambda: event.wait()), event.set
        def event_timeout():
            event = threading.Event()
            return (lambda: event.wait(TIMEOUT)), event.set
        def semaphore():
            semaphore = threading.Semaphore(0)
            return (lambda: semaphore.acquire()), lambda: semaphore.release(COUNT)
        def condition():
            condition = threading.Condition()
            done = False
            def block():
                with condition:
                    return condition.wait_for(lambda: done)
            def release():
                nonlocal done
                with condition:
                    done = True
                    condition.notify_all()
            return block, release
        def fifo():
            fifo = queue.Queue()
            return (lambda: fifo.get()), lambda: [fifo.put(1) for _ in range(COUNT)]
        def future():
            future = concurrent.futures.Future()
            return (lambda: future.result()), lambda: future.set_result(7)
        for make in (event, event_timeout, semaphore, condition, fifo, future):
            with self.subTest(make.__name__):
                self.assertEqual(len(set(self.check(make))), 1)

    def test_pin(self):
        def wait():
            with virtual_threading.pin():
                ident = threading.get_native_id()
                time.sleep(0.001)
                return ident == threading.get_native_id()
        self.assertTrue(self.both_ways(lambda: self.call(wait), soft=False))

    def test_context(self):
        var = contextvars.ContextVar("var", default=0)
        def wait(log):
            time.sleep(0.001)
            log.append(var.get())
        def run():
            log = []
            context = contextvars.copy_context()
            context.run(var.set, 5)
            threads = [virtual_threading.Thread(target=wait, args=(log,), context=context)]
            for thread in threads:
                thread.start()
            self.join(threads)
            return log
        self.assertEqual(self.both_ways(run), [5])

    def test_subclass(self):
        class Sleeper(virtual_threading.Thread):
            def run(self):
                time.sleep(0.001)
                self.done = True
        def run():
            thread = Sleeper()
            thread.start()
            self.join([thread])
            return thread.done
        self.assertTrue(self.both_ways(run))

    def test_uncaught_exception(self):
        def fail():
            time.sleep(0.001)
            1 / 0
        def run():
            found = []
            hook, threading.excepthook = threading.excepthook, found.append
            try:
                self.join([spawn(fail)])
            finally:
                threading.excepthook = hook
            return [''.join(traceback.format_exception(args.exc_value))
                    for args in found]
        text, = self.both_ways(run)
        self.assertIn("1 / 0", text)


class SimpleQueueTests(SoftTestCase):

    def test_get(self):
        for block in (
            lambda fifo: fifo.get(),
            lambda fifo: fifo.get(True),
            lambda fifo: fifo.get(timeout=TIMEOUT),
            lambda fifo: fifo.get(*(True,), **{'timeout': TIMEOUT}),
            lambda fifo: [1, fifo.get(block=True, timeout=None)][1],
        ):
            def make():
                fifo = queue.SimpleQueue()
                def release():
                    for i in range(COUNT):
                        fifo.put(i)
                return (lambda: block(fifo)), release
            def ordered():
                return sorted(self.check_parks(*make()))
            self.assertEqual(self.both_ways(ordered, least=COUNT), list(range(COUNT)))

    def test_empty(self):
        fifo = queue.SimpleQueue()
        def wait():
            log = []
            for arguments in ((False,), (True, 0), (True, 0.001), (True, -1)):
                try:
                    fifo.get(*arguments)
                except (queue.Empty, ValueError) as exc:
                    log.append((repr(exc), [f.lineno for f in
                                            traceback.extract_tb(exc.__traceback__)]))
            return log
        self.assertEqual(len(self.both_ways(lambda: self.call(wait))), 4)

    def test_subclass(self):
        class Fifo(queue.SimpleQueue):
            pass
        def run():
            fifo = Fifo()
            def wait():
                try:
                    fifo.get(timeout=0.001)
                except queue.Empty as exc:
                    return repr(exc)
            return self.call(wait)
        self.assertEqual(self.both_ways(run), "Empty()")

    def test_traffic(self):
        # Each item arrives once, and with one producer in order; timeouts race with it.
        def run():
            fifo, back = queue.SimpleQueue(), queue.SimpleQueue()
            def consume(timeout):
                while True:
                    try:
                        item = fifo.get(True, timeout)
                    except queue.Empty:
                        continue
                    if item is None:
                        return
                    back.put(item)
            threads = [spawn(consume, (None, 0.0003)[i % 2]) for i in range(10)]
            for i in range(600):
                fifo.put(i)
                if i % 50 == 0:
                    time.sleep(0.002)
            for _ in threads:
                fifo.put(None)
            self.join(threads)
            return sorted(back.get_nowait() for _ in range(back.qsize()))
        self.assertEqual(self.both_ways(run), list(range(600)))


class SchemeTests(SoftTestCase):

    def test_no_stacks(self):
        # Those that wait have none: there are far fewer stacks than threads.
        lock = threading.Lock()
        def wait():
            with lock:
                pass
        with lock:
            before = soft_parks()
            threads = [spawn(wait) for _ in range(1000)]
            self.wait_until(lambda: {t.state for t in threads} == {'parked'},
                            "all parked")
            found = virtual_threading.stats()
        self.join(threads)
        self.assertGreaterEqual(found['soft_parks'] - before, 1000)
        self.assertLess(found['stacks_resident'] + found['stacks_frozen'], 600)

    def test_mixed(self):
        # Soft and ordinary parks in turn, with C frames in between.
        def run():
            lock = threading.Lock()
            def touch(i):
                with lock:
                    time.sleep(0.0001 * (i % 3))
                return i
            def work(number):
                total = 0
                for i in range(8):
                    total += touch(i)
                    total += sum(map(touch, range(3)))
                    total += max((touch(j) for j in range(2)))
                return total
            return self.call_all([functools.partial(work, n) for n in range(8)])
        self.both_ways(run, soft=False)
        def outermost():
            box = []
            def work():
                lock = threading.Lock()
                for i in range(20):
                    time.sleep(0.0001)
                    box.extend(map(lambda x: time.sleep(0.0001) or x, [i]))
            self.join([spawn(work) for _ in range(10)])
            return sorted(box)
        self.both_ways(outermost)


if __name__ == "__main__":
    unittest.main()

"""VirtualThreadPoolExecutor: what it does otherwise than ThreadPoolExecutor.

What it does alike is in test_executor_cpython.
"""

import asyncio
import os
import threading
import unittest
import weakref
from concurrent import futures
from concurrent.futures import VirtualThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool
from concurrent.futures.virtual import _Call
from test import support
from test.support.script_helper import assert_python_ok
from unittest import mock

import virtual_threading
from test.test_virtual_threading.util import COUNT, TIMEOUT, TestCase


def tearDownModule():
    asyncio.set_event_loop_policy(None)


class ExecutorTests(TestCase):

    def test_exported(self):
        self.assertIn('VirtualThreadPoolExecutor', futures.__all__)
        self.assertIn('VirtualThreadPoolExecutor', dir(futures))
        self.assertTrue(issubclass(VirtualThreadPoolExecutor, futures.Executor))

    def test_bad_arguments(self):
        for value in (0, -1):
            with self.assertRaisesRegex(ValueError, "greater than 0"):
                VirtualThreadPoolExecutor(value)
        self.assertRaises(TypeError, VirtualThreadPoolExecutor, "1")
        with self.assertRaisesRegex(TypeError, "must be a callable"):
            VirtualThreadPoolExecutor(initializer=1)
        with VirtualThreadPoolExecutor() as executor:
            self.assertRaises(TypeError, executor.submit)
            self.assertRaises(TypeError, executor.submit(1).result)

    def test_each_call_has_its_own_virtual_thread(self):
        local = threading.local()

        def call():
            fresh = not hasattr(local, 'used')
            local.used = True
            return fresh and virtual_threading.is_virtual()

        for max_workers in (None, 1, 3):
            with VirtualThreadPoolExecutor(max_workers) as executor:
                calls = [executor.submit(call) for _ in range(20)]
                self.assertTrue(all(f.result(TIMEOUT) for f in calls))

    def test_unbounded(self):
        # All at once: each waits for all the others.
        barrier = threading.Barrier(1000)
        with VirtualThreadPoolExecutor() as executor:
            calls = [executor.submit(barrier.wait) for _ in range(1000)]
            self.assertEqual(sorted(f.result(TIMEOUT) for f in calls),
                             list(range(1000)))

    def test_bounded(self):
        lock = threading.Lock()
        running = most = 0

        def call():
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            virtual_threading.yield_now()
            with lock:
                running -= 1

        with VirtualThreadPoolExecutor(3) as executor:
            for future in [executor.submit(call) for _ in range(100)]:
                future.result(TIMEOUT)
        self.assertLessEqual(most, 3)

    def test_calls_that_submit_and_wait(self):
        # Deadlocks in any pool of fewer than ten workers.
        def call(executor, depth):
            if depth:
                return 1 + executor.submit(call, executor, depth - 1).result(TIMEOUT)
            return 0

        with VirtualThreadPoolExecutor() as executor:
            self.assertEqual(executor.submit(call, executor, 10).result(TIMEOUT), 10)

    def test_futures_park(self):
        event = self.make_event()
        with VirtualThreadPoolExecutor() as executor, self.setting(event):
            future = executor.submit(event.wait)
            self.assertEqual(self.check_parks(future.result, event.set),
                             [True] * COUNT)

    def test_wait_and_as_completed(self):
        events = [self.make_event() for _ in range(3)]
        with VirtualThreadPoolExecutor() as executor:
            calls = [executor.submit(event.wait) for event in events]
            self.assertEqual(futures.wait(calls, timeout=0).done, set())
            events[1].set()
            done = futures.wait(calls, TIMEOUT, futures.FIRST_COMPLETED).done
            self.assertEqual(done, {calls[1]})
            completed = futures.as_completed(calls, TIMEOUT)
            self.assertIs(next(completed), calls[1])
            events[2].set()
            self.assertIs(next(completed), calls[2])
            events[0].set()
            self.assertEqual(list(completed), [calls[0]])

    def test_asyncio(self):
        async def main(executor):
            loop = asyncio.get_running_loop()
            return await asyncio.gather(
                asyncio.wrap_future(executor.submit(pow, 2, 3)),
                loop.run_in_executor(executor, virtual_threading.is_virtual))

        with VirtualThreadPoolExecutor() as executor:
            self.assertEqual(asyncio.run(main(executor)), [8, True])

    def test_default_executor_of_asyncio(self):
        # docs/LIMITS.md says what to do instead, and has no such entry when asyncio takes it.
        async def main(executor):
            with self.assertRaisesRegex(TypeError, "ThreadPoolExecutor instance"):
                asyncio.get_running_loop().set_default_executor(executor)

        with VirtualThreadPoolExecutor() as executor:
            asyncio.run(main(executor))

    def test_names(self):
        def name():
            return threading.current_thread().name

        with VirtualThreadPoolExecutor(thread_name_prefix="abc") as executor:
            names = [executor.submit(name).result(TIMEOUT) for _ in range(3)]
        self.assertEqual(names, ["abc_0", "abc_1", "abc_2"])
        with VirtualThreadPoolExecutor() as executor:
            self.assertRegex(executor.submit(name).result(TIMEOUT),
                             r"\AVirtualThreadPoolExecutor-\d+_0\Z")

    def test_base_exceptions(self):
        with VirtualThreadPoolExecutor() as executor:
            for exception in (SystemExit, KeyboardInterrupt, ZeroDivisionError):
                def call():
                    raise exception("of the call")
                with self.assertRaisesRegex(exception, "of the call"):
                    executor.submit(call).result(TIMEOUT)

    def test_call_does_not_keep_its_arguments(self):
        class Argument:
            pass

        argument = Argument()
        reference = weakref.ref(argument)
        with VirtualThreadPoolExecutor() as executor:
            future = executor.submit(id, argument)
            del argument
            future.result(TIMEOUT)
            self.wait_until(
                lambda: support.gc_collect() is None and reference() is None,
                "argument collected")


class InitializerTests(TestCase):

    def test_in_the_thread_of_each_call(self):
        local = threading.local()
        count = []

        def initialize(value):
            local.value = value
            count.append(1)

        with VirtualThreadPoolExecutor(2, initializer=initialize,
                                       initargs=("given",)) as executor:
            values = list(executor.map(lambda _: local.value, range(10)))
        self.assertEqual(values, ["given"] * 10)
        self.assertEqual(len(count), 10)

    def test_failure_breaks_the_executor(self):
        entered = self.make_event()
        proceed = self.make_event()

        def initialize():
            entered.set()
            proceed.wait()
            raise ValueError("error in initializer")

        with self.assertLogs('concurrent.futures', 'CRITICAL') as log:
            executor = VirtualThreadPoolExecutor(1, initializer=initialize)
            first = executor.submit(int)
            waiting = executor.submit(int)
            cancelled = executor.submit(int)
            self.wait_for(entered)
            self.assertTrue(cancelled.cancel())
            proceed.set()
            for future in (first, waiting):
                self.assertIsInstance(future.exception(TIMEOUT), BrokenThreadPool)
            self.assertTrue(cancelled.cancelled())
            self.assertRaises(BrokenThreadPool, executor.submit, int)
            executor.shutdown()
        self.assertIn("ValueError: error in initializer", log.output[0])

    def test_running_calls_survive_a_failure(self):
        event = self.make_event()
        started = self.make_event()
        fail = False

        def initialize():
            if fail:
                raise ValueError

        def call():
            started.set()
            return event.wait()

        executor = VirtualThreadPoolExecutor(initializer=initialize)
        first = executor.submit(call)
        self.wait_for(started)
        fail = True
        with self.assertLogs('concurrent.futures', 'CRITICAL'):
            self.assertIsInstance(executor.submit(int).exception(TIMEOUT),
                                  BrokenThreadPool)
        event.set()
        self.assertTrue(first.result(TIMEOUT))
        executor.shutdown()


class MapTests(TestCase):

    def test_buffersize(self):
        for max_workers in (None, 2):
            with VirtualThreadPoolExecutor(max_workers) as executor:
                for buffersize in (1, 3, 10, 100):
                    self.assertEqual(
                        list(executor.map(pow, range(10), range(10),
                                          buffersize=buffersize)),
                        [n ** n for n in range(10)])
                self.assertEqual(list(executor.map(int, buffersize=2)), [])
                self.assertEqual(list(executor.map(int, "", buffersize=2)), [])

    def test_buffersize_bounds_what_is_read(self):
        read = []

        def numbers():
            for number in range(10):
                read.append(number)
                yield number

        with VirtualThreadPoolExecutor() as executor:
            results = executor.map(str, numbers(), buffersize=3)
            self.assertEqual(len(read), 3)
            self.assertEqual(next(results), "0")
            self.assertEqual(len(read), 3)
            self.assertEqual(next(results), "1")
            self.assertEqual(len(read), 4)
            results.close()
            self.assertEqual(len(read), 4)

    def test_buffersize_with_endless_iterable(self):
        def numbers():
            number = 0
            while True:
                yield number
                number += 1

        with VirtualThreadPoolExecutor() as executor:
            results = executor.map(str, numbers(), buffersize=2)
            self.assertEqual([next(results) for _ in range(5)],
                             ["0", "1", "2", "3", "4"])
            results.close()

    def test_bad_buffersize(self):
        with VirtualThreadPoolExecutor() as executor:
            for value in (0, -1):
                with self.assertRaisesRegex(ValueError, "buffersize"):
                    executor.map(int, "1", buffersize=value)
            for value in ("1", 1.0):
                with self.assertRaisesRegex(TypeError, "buffersize"):
                    executor.map(int, "1", buffersize=value)

    def test_timeout(self):
        for buffersize in (None, 3):
            event = self.make_event()
            with VirtualThreadPoolExecutor(1) as executor, self.setting(event):
                results = executor.map(lambda number: number and event.wait(),
                                       [0, 1, 1], timeout=0.5, buffersize=buffersize)
                self.assertEqual(next(results), 0)
                self.assertRaises(TimeoutError, next, results)

    def test_error_cancels_the_rest(self):
        started = []
        event = self.make_event()

        def call(number):
            started.append(number)
            if number == 0:
                raise ValueError
            event.wait()

        with VirtualThreadPoolExecutor(1) as executor, self.setting(event):
            results = executor.map(call, range(10), buffersize=5)
            self.assertRaises(ValueError, next, results)
        # One more had begun, at most: it waits.  Which one depends on who was faster,
        # the calls that took each other's place or the cancelling of them.
        self.assertEqual(started[0], 0)
        self.assertLessEqual(len(started), 2)

    def test_call_error_does_not_submit_more(self):
        with VirtualThreadPoolExecutor() as executor:
            results = executor.map(int, ["1", "x", "2"], buffersize=1)
            self.assertEqual(next(results), 1)
            self.assertRaises(ValueError, next, results)
            self.assertRaises(StopIteration, next, results)


class ShutdownTests(TestCase):

    def test_waits_for_the_end_of_the_threads(self):
        executor = VirtualThreadPoolExecutor()
        threads = []
        for _ in range(50):
            executor.submit(lambda: threads.append(threading.current_thread()))
        executor.shutdown()
        self.assertEqual(len(threads), 50)
        self.assertFalse([t for t in threads if t.is_alive()])
        self.assertRaisesRegex(RuntimeError, "after shutdown", executor.submit, int)
        executor.shutdown()

    def test_without_wait(self):
        event = self.make_event()
        executor = VirtualThreadPoolExecutor(1)
        calls = [executor.submit(event.wait) for _ in range(3)]
        executor.shutdown(wait=False)
        self.assertFalse(any(f.done() for f in calls))
        event.set()
        self.assertEqual([f.result(TIMEOUT) for f in calls], [True] * 3)
        executor.shutdown()

    def test_cancel_futures(self):
        event = self.make_event()
        started = self.make_event()
        executor = VirtualThreadPoolExecutor(1)
        running = executor.submit(lambda: started.set() or event.wait())
        waiting = [executor.submit(int) for _ in range(3)]
        self.wait_for(started)
        executor.shutdown(wait=False, cancel_futures=True)
        self.assertTrue(all(f.cancelled() for f in waiting))
        # Those who wait for them are told.
        self.assertEqual(futures.wait(waiting, TIMEOUT).not_done, set())
        event.set()
        self.assertTrue(running.result(TIMEOUT))
        executor.shutdown()

    def test_from_inside(self):
        executor = VirtualThreadPoolExecutor()
        with self.assertRaisesRegex(RuntimeError, "cannot join current thread"):
            executor.submit(executor.shutdown).result(TIMEOUT)
        executor.shutdown()

    def test_from_many_threads(self):
        event = self.make_event()
        executor = VirtualThreadPoolExecutor(2)
        calls = [executor.submit(event.wait) for _ in range(10)]
        with self.blocked(executor.shutdown, count=5):
            event.set()
        self.assertTrue(all(f.done() for f in calls))

    def test_dropped_executor_ends(self):
        executor = VirtualThreadPoolExecutor(1)
        calls = [executor.submit(str, n) for n in range(10)]
        del executor
        self.assertEqual([f.result(TIMEOUT) for f in calls], list("0123456789"))

    def test_thread_that_cannot_be_started(self):
        # In submit() the caller is told; for a call that waits, the thread that has
        # just done another one does it.
        event = self.make_event()
        executor = VirtualThreadPoolExecutor(1)
        first = executor.submit(event.wait)
        second = executor.submit(threading.get_ident)
        third = executor.submit(threading.get_ident)

        def fail(*args, **kwargs):
            raise RuntimeError("can't start new thread")

        with mock.patch.object(_Call, 'start', fail):
            event.set()
            self.assertTrue(first.result(TIMEOUT))
            self.assertEqual(second.result(TIMEOUT), third.result(TIMEOUT))
            executor.shutdown()
            executor = VirtualThreadPoolExecutor()
            self.assertRaisesRegex(RuntimeError, "can't start", executor.submit, int)
        self.assertEqual(executor.submit(int).result(TIMEOUT), 0)
        executor.shutdown()

    def test_exit_runs_what_waits(self):
        rc, out, err = assert_python_ok('-c', """if True:
            from concurrent.futures import VirtualThreadPoolExecutor
            executor = VirtualThreadPoolExecutor(1)
            for number in range(5):
                executor.submit(print, number, flush=True)
            """)
        self.assertEqual(out.split(), [b"0", b"1", b"2", b"3", b"4"])
        self.assertEqual(err, b"")

    @support.requires_fork()
    def test_fork(self):
        # The child has none of the calls, and can use the executor.
        rc, out, err = assert_python_ok('-W', 'ignore', '-c', """if True:
            import os, threading
            from concurrent.futures import VirtualThreadPoolExecutor
            event = threading.Event()
            executor = VirtualThreadPoolExecutor(1)
            calls = [executor.submit(event.wait) for _ in range(3)]
            pid = os.fork()
            if pid == 0:
                print("child", executor.submit(int, "7").result(), flush=True)
                executor.shutdown()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            event.set()
            print("parent", [f.result() for f in calls], flush=True)
            """)
        self.assertEqual(out.splitlines(),
                         [b"child 7", b"parent [True, True, True]"])

    @support.requires_fork()
    def test_fork_in_a_call(self):
        rc, out, err = assert_python_ok('-W', 'ignore', '-c', """if True:
            import multiprocessing
            from concurrent.futures import VirtualThreadPoolExecutor

            def run():
                process = multiprocessing.get_context('fork').Process(target=int)
                process.start()
                process.join()
                return process.exitcode

            with VirtualThreadPoolExecutor(1) as executor:
                print(executor.submit(run).result(), flush=True)
            """)
        self.assertEqual(out.split(), [b"0"])


if __name__ == "__main__":
    unittest.main()

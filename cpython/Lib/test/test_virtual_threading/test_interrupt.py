"""Thread.interrupt(): what it raises, between calls, at a hand-over and at exit."""

import contextlib
import gc
import importlib
import os
import queue
import select
import socket
import tempfile
import threading
import time
import unittest
import virtual_threading
import weakref

from test import support
from test.support import import_helper, script_helper
from test.test_virtual_threading.interrupt_util import (
    InterruptCase, Stop, import_on, importing)
from test.test_virtual_threading.util import LONG, TIMEOUT
from virtual_threading import Interrupted, Thread, pin, spawn


class ExceptionTests(InterruptCase):

    def test_class_and_instance(self):
        lock = threading.Lock()
        with lock:
            self.check_interrupt(lock.acquire, Stop)
            stop = Stop("now")
            self.assertIs(self.check_interrupt(lock.acquire, stop), stop)

    def test_errors(self):
        thread = Thread(target=int)
        with self.assertRaisesRegex(RuntimeError, "before it is started"):
            thread.interrupt()
        thread.start()
        for exc in None, int, "x", 1:
            with self.assertRaisesRegex(TypeError, "must derive from BaseException"):
                thread.interrupt(exc)
        self.join([thread])
        self.assertFalse(thread.interrupt())

    def test_hierarchy(self):
        self.assertTrue(issubclass(Interrupted, BaseException))
        self.assertFalse(issubclass(Interrupted, Exception))
        self.assertTrue(issubclass(virtual_threading.ScopeCancelled, Interrupted))

    def test_ends_thread_silently(self):
        # A failure would be seen by the excepthook of TestCase.
        thread = spawn(time.sleep, LONG)
        thread.interrupt()
        self.join([thread])
        thread = spawn(time.sleep, LONG)
        thread.interrupt(SystemExit)
        self.join([thread])

    def test_other_exception_is_reported(self):
        thread = spawn(time.sleep, LONG)
        thread.interrupt(Stop)
        self.join([thread])
        self.assertEqual(len(self._failures), 1)
        self.assertIn("Stop", self._failures.pop())

    def test_references(self):
        stop = Stop()
        event = self.make_event()
        for _ in range(3):
            thread = spawn(lambda: event.is_set())
            self.join([thread])
            thread.interrupt(stop)
        thread = spawn(lambda: [None for _ in range(10)])
        thread.interrupt(stop)      # is not raised by a thread that does not wait
        self.join([thread])
        ref = weakref.ref(stop)
        del stop
        self.wait_until(lambda: gc.collect() >= 0 and ref() is None, "no reference")


class BetweenCallsTests(InterruptCase):

    def test_pending(self):
        # It is raised by the first call that has to wait, and by no other.
        go = threading.Event()
        free = threading.Lock()
        seen = []

        def run():
            while not go.is_set():
                pass
            with free:
                seen.append("free lock")
            seen.append(sum(range(100)))
            try:
                time.sleep(LONG)
            except Interrupted:
                seen.append("interrupted")
            time.sleep(0.001)
            seen.append("went on")

        thread = spawn(run)
        with self.setting(go):
            thread.interrupt()
        self.join([thread])
        self.assertEqual(seen, ["free lock", 4950, "interrupted", "went on"])

    def test_pending_for_every_call(self):
        lock = threading.Lock()
        lock.acquire()
        a, b = socket.socketpair()
        self.addCleanup(a.close)
        self.addCleanup(b.close)
        me = threading.current_thread
        for block in (lock.acquire, lambda: time.sleep(LONG), queue.SimpleQueue().get,
                      lambda: a.recv(1), lambda: select.select([a], [], []),
                      threading.Event().wait, virtual_threading.yield_now,
                      threading.main_thread().join):
            for pinned in False, True:
                def run():
                    with pin() if pinned else contextlib.nullcontext():
                        me().interrupt()
                        with self.assertRaises(Interrupted):
                            block()

                with self.subTest(block=block, pinned=pinned):
                    self.call(run)

    def test_before_first_run(self):
        ran = []

        def run():
            ran.append(1)
            time.sleep(LONG)

        thread = Thread(target=run)
        thread.start()
        thread.interrupt()
        self.join([thread])
        self.assertEqual(ran, [1])

    def test_several(self):
        # One at a time, in their order; the same one counts once.
        def run():
            me = threading.current_thread()
            me.interrupt(Stop)
            me.interrupt()
            me.interrupt(Stop)
            with self.assertRaises(Stop):
                time.sleep(LONG)
            with self.assertRaises(Interrupted):
                time.sleep(LONG)
            time.sleep(0.001)

        self.call(run)

    def test_nonblocking_calls(self):
        lock = threading.Lock()

        def run():
            threading.current_thread().interrupt()
            with lock:
                self.assertFalse(lock.acquire(blocking=False))
            with self.assertRaises(queue.Empty):
                queue.SimpleQueue().get_nowait()
            self.assertEqual(select.select([], [], [], 0), ([], [], []))
            with self.assertRaises(Interrupted):
                time.sleep(LONG)

        self.call(run)

    def test_finally(self):
        # A finally block waits as any other code does; a second interrupt ends that wait.
        steps = []
        event = threading.Event()
        cleaning = threading.Event()

        def run():
            try:
                time.sleep(LONG)
            finally:
                cleaning.set()
                steps.append(event.wait(TIMEOUT))

        thread = spawn(run)
        self.wait_blocked(thread)
        thread.interrupt()
        self.wait_for(cleaning)
        event.set()
        self.join([thread])
        self.assertEqual(steps, [True])

        event.clear()
        cleaning.clear()
        thread = spawn(run)
        self.wait_blocked(thread)
        thread.interrupt()
        self.wait_for(cleaning)
        self.wait_blocked(thread)
        thread.interrupt()
        self.join([thread])
        self.assertEqual(steps, [True])

    def test_exit(self):
        class Manager:
            def __enter__(self):
                return self

            def __exit__(self, *exc):
                time.sleep(LONG)

        def run():
            threading.current_thread().interrupt()
            with self.assertRaises(Interrupted) as caught:
                with Manager():
                    1/0
            self.assertIsInstance(caught.exception.__context__, ZeroDivisionError)

        self.call(run)

    def test_finalizer(self):
        # Not raised where it would be printed and forgotten, but by the next call.
        event = threading.Event()
        seen = []

        class Object:
            def __del__(self):
                started.set()
                seen.append(event.wait(TIMEOUT))

        started = threading.Event()

        def run():
            obj = Object()
            del obj
            time.sleep(LONG)

        thread = spawn(run)
        with self.setting(event):
            self.wait_for(started)
            thread.interrupt()
        self.join([thread])
        self.assertEqual(seen, [True])

    def test_platform_thread_interrupts(self):
        thread = spawn(time.sleep, LONG)
        other = threading.Thread(target=thread.interrupt)
        other.start()
        self.join([other, thread])

    def test_regular_file_and_foreign_code(self):
        # They end first, though it has come before.
        ctypes = import_helper.import_module("ctypes")
        libc = ctypes.CDLL(None)
        mutex = ctypes.create_string_buffer(128)
        data = bytes(1 << 20)

        def use_file():
            with tempfile.TemporaryFile(buffering=0) as file:
                written = file.write(data)
                os.fsync(file)
                file.seek(0)
                return written, len(file.read())

        def run(call):
            threading.current_thread().interrupt()
            results.append(call())
            with self.assertRaises(Interrupted):
                time.sleep(LONG)

        results = []
        self.call(run, use_file)
        self.assertEqual(results.pop(), (len(data), len(data)))
        # Signals do not end this one.
        self.assertEqual(libc.pthread_mutex_lock(mutex), 0)
        thread = spawn(run, lambda: libc.pthread_mutex_lock(mutex))
        self.wait_until(lambda: virtual_threading.stats()['carriers_blocked'], "the call")
        self.assertEqual(results, [])
        self.assertEqual(libc.pthread_mutex_unlock(mutex), 0)
        self.join([thread])
        self.assertEqual(results, [0])

    def test_shielding(self):
        # By a thread that is joined: the join is interrupted, the thread goes on.
        event = self.make_event()
        results, alive = [], []

        def run():
            worker = spawn(lambda: results.append(event.wait(TIMEOUT)))
            try:
                worker.join()
            except Interrupted:
                alive.append(worker.is_alive())
                worker.join()

        thread = spawn(run)
        self.wait_blocked(thread)
        thread.interrupt()
        self.wait_until(lambda: alive, "the interrupt")
        event.set()
        self.join([thread])
        self.assertEqual(alive, [True])
        self.assertEqual(results, [True])


class HandOverTests(InterruptCase):
    """What is handed to a thread in the moment of its interrupt is not lost."""

    ROUNDS = 200

    def test_lock(self):
        lock = threading.Lock()
        for _ in range(self.ROUNDS):
            lock.acquire()
            outcome = []

            def run():
                try:
                    lock.acquire()
                except Interrupted:
                    outcome.append("interrupted")
                    return
                lock.release()
                try:
                    time.sleep(LONG)
                except Interrupted:
                    outcome.append("acquired")

            thread = spawn(run)
            self.wait_blocked(thread)
            other = spawn(thread.interrupt)
            lock.release()
            self.join([thread, other])
            self.assertEqual(len(outcome), 1)
            self.assertTrue(lock.acquire(timeout=TIMEOUT))
            lock.release()

    def check_queue(self, items):
        for i in range(self.ROUNDS):
            got = []

            def run():
                try:
                    got.append(items.get())
                    time.sleep(LONG)
                except Interrupted:
                    pass

            threads = [spawn(run), spawn(run)]
            for thread in threads:
                self.wait_blocked(thread)
            other = spawn(threads[0].interrupt)
            items.put(i)
            # The first one gets it, or it is interrupted and the second one gets it.
            self.wait_until(lambda: got, "the item")
            self.assertEqual(got, [i])
            threads[1].interrupt()
            self.join([*threads, other])

    def test_queue(self):
        self.check_queue(queue.Queue())

    def test_simple_queue(self):
        self.check_queue(queue.SimpleQueue())

    def test_condition_lock_is_held(self):
        # Interrupted while it takes the lock again.
        cond = threading.Condition()
        outcome = []

        def run():
            with cond:
                try:
                    cond.wait()
                except Interrupted:
                    pass
                outcome.append(cond._is_owned())

        for _ in range(20):
            thread = spawn(run)
            self.wait_until(lambda: cond._waiters, "a waiter")
            with cond:
                cond.notify()
                thread.interrupt()
                time.sleep(0.001)
            self.join([thread])
        self.assertEqual(outcome, [True] * 20)

    def test_condition_notification(self):
        # Another waiter gets what comes to a thread that is about to raise.
        cond = threading.Condition()
        restore, restoring = cond._acquire_restore, threading.Event()

        def acquire_restore(state):
            restoring.set()
            restore(state)

        def run():
            with cond:
                cond.wait()
                got.append(threading.current_thread())

        cond._acquire_restore = acquire_restore
        got, threads = [], []
        for count in 1, 2:
            threads.append(spawn(run))
            self.wait_until(lambda: len(cond._waiters) == count, "a waiter")
        with cond:
            threads[0].interrupt()
            self.wait_for(restoring)
            cond.notify()
        self.join(threads)
        self.assertEqual(got, threads[1:])

    def test_semaphore(self):
        semaphore = threading.Semaphore(0)
        for _ in range(self.ROUNDS):
            got = []
            thread = spawn(lambda: got.append(semaphore.acquire()))
            self.wait_blocked(thread)
            other = spawn(thread.interrupt)
            semaphore.release()
            self.join([thread, other])
            # It took it, or left it.
            self.assertEqual(len(got) + semaphore._value, 1)
            semaphore.acquire(blocking=False)


class ImportTests(InterruptCase):

    def test_wait_for_module(self):
        # Who waits for another thread's import is interrupted; the import is not.
        name = self.make_blocking_module()
        results = []

        def load():
            try:
                results.append(importlib.import_module(name).x)
            except Interrupted:
                results.append("interrupted")

        with self.setting(import_on):
            threads = [spawn(load)]
            self.wait_for(importing)
            threads += [spawn(load) for _ in range(3)]
            for thread in threads:
                self.wait_blocked(thread)
            threads[1].interrupt()
            self.join([threads[1]])
            self.assertEqual(results, ["interrupted"])
        self.join(threads)
        self.assertEqual(results, ["interrupted", 42, 42, 42])
        self.assertEqual(self.call(importlib.import_module, name).x, 42)


class ExitTests(unittest.TestCase):

    def test_pending_at_exit(self):
        script_helper.assert_python_ok("-c", """if True:
            import threading, time, virtual_threading
            event = threading.Event()
            daemon = virtual_threading.Thread(target=event.wait, daemon=True)
            daemon.start()
            daemon.interrupt()
            other = virtual_threading.spawn(time.sleep, 1000)
            other.interrupt()
            """)

    @support.requires_fork()
    def test_fork(self):
        script_helper.assert_python_ok("-W", "ignore", "-c", """if True:
            import os, threading, time, virtual_threading
            def run():
                threading.current_thread().interrupt()
                pid = os.fork()
                try:
                    time.sleep(1000)
                except virtual_threading.Interrupted:
                    if pid == 0:
                        os._exit(7)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
            thread = virtual_threading.spawn(run)
            thread.join()
            """)


if __name__ == "__main__":
    unittest.main()

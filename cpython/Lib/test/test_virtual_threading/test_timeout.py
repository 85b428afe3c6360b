"""timeout() and deadline(), after the tests of asyncio.timeout().

Those of asyncio whose name is not found here, without its test_timeout_:

    at_basic                            test_deadline
    nested_timeouts                     test_nested_same_time
    waiter_cancelled                    test_interrupted_inside
    not_called                          test_not_reached
    at_disabled                         test_disabled
    zero, zero_sleep_zero,
    in_the_past_sleep_zero              test_zero_and_past
    foreign_exception_passed            test_foreign_exception
    foreign_cancel_doesnt_...           test_foreign_interrupt
    outer_task_is_not_cancelled         test_each_thread_its_own
    nested_timeouts_concurrent          test_nested_both
    nested_timeouts_loop_busy           test_nested_one_after_the_other
    nested_timeout_in_finally           test_nested_in_finally
    repr_*                              test_repr
    after_cancellation,
    cancel_in_timeout_after_...         test_after_interrupt
    already_entered, double_enter       test_entered_twice
    finished, expired, expiring,
    not_entered                         test_state_errors
    without_task                        test_platform_thread
    taskgroup                           test_scope_options.test_failure_on_timeout
"""

import _vthread
import contextlib
import os
import queue
import select
import socket
import threading
import time
import unittest

from test.test_virtual_threading.interrupt_util import InterruptCase
from test.test_virtual_threading.socket_util import SocketTestCase
from test.test_virtual_threading.test_interrupt_calls import BlockingCalls
from test.test_virtual_threading.util import COUNT, LONG, SHORT, TIMEOUT, TestCase, virtual
from virtual_threading import Interrupted, deadline, pin, spawn, timeout


class TimeoutTests(TestCase):

    @virtual
    def test_basic(self):
        with self.assertRaises(TimeoutError):
            with timeout(SHORT) as cm:
                time.sleep(LONG)
        self.assertTrue(cm.expired())
        self.assertLessEqual(cm.when(), time.monotonic())

    @virtual
    def test_deadline(self):
        when = time.monotonic() + SHORT
        with self.assertRaises(TimeoutError):
            with deadline(when) as cm:
                time.sleep(LONG)
        self.assertTrue(cm.expired())
        self.assertEqual(cm.when(), when)

    @virtual
    def test_interrupted_inside(self):
        with self.assertRaises(TimeoutError):
            with timeout(SHORT):
                with self.assertRaises(Interrupted) as caught:
                    time.sleep(LONG)
                raise caught.exception

    @virtual
    def test_nested_same_time(self):
        # Only the outer one raises TimeoutError; to asyncio, both have expired.
        when = time.monotonic() + SHORT
        seen = []
        with self.assertRaises(TimeoutError):
            with deadline(when) as outer:
                try:
                    with deadline(when) as inner:
                        time.sleep(LONG)
                except Interrupted:
                    seen.append("interrupted")
                    raise
        self.assertEqual(seen, ["interrupted"])
        self.assertTrue(outer.expired())
        self.assertFalse(inner.expired())

    @virtual
    def test_not_reached(self):
        with timeout(LONG) as cm:
            time.sleep(0.001)
        self.assertFalse(cm.expired())
        self.assertGreater(cm.when(), time.monotonic())

    @virtual
    def test_disabled(self):
        for make in timeout, deadline:
            with make(None) as cm:
                time.sleep(0.001)
            self.assertFalse(cm.expired())
            self.assertIsNone(cm.when())

    @virtual
    def test_far_away(self):
        for seconds in 1e10, 1e300, float("inf"):
            with timeout(seconds) as cm:
                time.sleep(0.001)
            self.assertFalse(cm.expired())

    @virtual
    def test_zero_and_past(self):
        for seconds in 0, -11, -1e300, float("-inf"):
            for call in lambda: time.sleep(LONG), lambda: time.sleep(0):
                with self.assertRaises(TimeoutError):
                    with timeout(seconds) as cm:
                        call()
                self.assertTrue(cm.expired())

    @virtual
    def test_bad_values(self):
        for value in "1", b"1", []:
            with self.assertRaises(TypeError):
                with deadline(value):
                    pass
        with self.assertRaises(ValueError):
            with timeout(float("nan")):
                pass
        time.sleep(0.001)

    @virtual
    def test_late_block(self):
        # Without a blocking call after its time a block ends as if there were no timeout.
        with timeout(0) as cm:
            result = sum(range(100))
        self.assertEqual(result, 4950)
        self.assertFalse(cm.expired())
        time.sleep(0.001)

    @virtual
    def test_after_the_block(self):
        with timeout(SHORT):
            pass
        time.sleep(2 * SHORT)

    @virtual
    def test_foreign_exception(self):
        with self.assertRaises(KeyError):
            with timeout(0) as cm:
                raise KeyError
        self.assertFalse(cm.expired())
        time.sleep(0.001)

    @virtual
    def test_exception_context(self):
        with self.assertRaises(TimeoutError) as caught:
            with timeout(SHORT):
                try:
                    1/0
                finally:
                    time.sleep(LONG)
        error = caught.exception
        interrupt = error.__cause__
        self.assertIsInstance(interrupt, Interrupted)
        self.assertIs(error.__context__, interrupt)
        self.assertIsNone(interrupt.__cause__)
        self.assertIsInstance(interrupt.__context__, ZeroDivisionError)

    @virtual
    def test_foreign_exception_on_timeout(self):
        with self.assertRaises(ZeroDivisionError) as caught:
            with timeout(SHORT) as cm:
                try:
                    time.sleep(LONG)
                finally:
                    1/0
        self.assertTrue(cm.expired())
        error = caught.exception.__context__
        self.assertIsNone(caught.exception.__cause__)
        self.assertIsInstance(error, TimeoutError)
        self.assertIsInstance(error.__cause__, Interrupted)
        self.assertIs(error.__context__, error.__cause__)

    @virtual
    def test_foreign_exception_on_timeout_2(self):
        with self.assertRaises(ZeroDivisionError) as caught:
            with timeout(SHORT):
                try:
                    try:
                        raise ValueError
                    finally:
                        time.sleep(LONG)
                finally:
                    try:
                        raise KeyError
                    finally:
                        1/0
        error = caught.exception
        self.assertIsNone(error.__cause__)
        key_error = error.__context__
        self.assertIsInstance(key_error, KeyError)
        timeout_error = key_error.__context__
        self.assertIsInstance(timeout_error, TimeoutError)
        self.assertIsInstance(timeout_error.__cause__, Interrupted)
        self.assertIsInstance(timeout_error.__cause__.__context__, ValueError)

    @virtual
    def test_foreign_interrupt(self):
        with self.assertRaises(Interrupted):
            with timeout(LONG) as cm:
                threading.current_thread().interrupt()
                time.sleep(LONG)
        self.assertFalse(cm.expired())

    @virtual
    def test_interrupt_and_timeout(self):
        # Both are raised, the timeout first.
        with self.assertRaises(TimeoutError):
            with timeout(0):
                threading.current_thread().interrupt(KeyError)
                time.sleep(LONG)
        with self.assertRaises(KeyError):
            time.sleep(LONG)

    @virtual
    def test_nested_outer_first(self):
        with self.assertRaises(TimeoutError):
            with timeout(SHORT) as outer:
                with timeout(LONG) as inner:
                    time.sleep(LONG)
        self.assertTrue(outer.expired())
        self.assertFalse(inner.expired())

    @virtual
    def test_nested_inner_first(self):
        with timeout(LONG) as outer:
            with self.assertRaises(TimeoutError):
                with timeout(SHORT) as inner:
                    time.sleep(LONG)
            time.sleep(0.001)
        self.assertFalse(outer.expired())
        self.assertTrue(inner.expired())

    @virtual
    def test_nested_both(self):
        # The inner one was due first, but nobody waited: the outer one is raised.
        with self.assertRaises(TimeoutError):
            with timeout(0) as outer:
                with timeout(-1) as inner:
                    time.sleep(LONG)
        self.assertTrue(outer.expired())
        self.assertFalse(inner.expired())

    @virtual
    def test_nested_one_after_the_other(self):
        with self.assertRaises(TimeoutError):
            with timeout(2 * SHORT) as outer:
                with self.assertRaises(TimeoutError):
                    with timeout(SHORT / 10):
                        time.sleep(LONG)
                time.sleep(LONG)
        self.assertTrue(outer.expired())

    @virtual
    def test_reschedule(self):
        with self.assertRaises(TimeoutError):
            with timeout(LONG) as cm:
                when = cm.when() + 1
                cm.reschedule(when)
                self.assertEqual(cm.when(), when)
                cm.reschedule(None)
                self.assertIsNone(cm.when())
                cm.reschedule(time.monotonic() + SHORT)
                time.sleep(LONG)
        self.assertTrue(cm.expired())
        with timeout(0) as cm:
            cm.reschedule(None)
            time.sleep(0.001)
        self.assertFalse(cm.expired())

    @virtual
    def test_reschedule_keeps_order(self):
        with self.assertRaises(TimeoutError):
            with timeout(LONG) as outer:
                with timeout(LONG) as inner:
                    inner.reschedule(0)
                    outer.reschedule(0)
                    time.sleep(LONG)
        self.assertTrue(outer.expired())
        self.assertFalse(inner.expired())

    @virtual
    def test_repr(self):
        cm = timeout(LONG)
        self.assertEqual(repr(cm), "<Timeout [created]>")
        with cm:
            self.assertRegex(repr(cm), r"<Timeout \[active\] when=\d+\.\d*>")
        self.assertEqual(repr(cm), "<Timeout [finished]>")
        with self.assertRaises(TimeoutError):
            with timeout(0) as cm:
                time.sleep(LONG)
        self.assertEqual(repr(cm), "<Timeout [expired]>")
        with timeout(None) as cm:
            self.assertEqual(repr(cm), "<Timeout [active] when=None>")

    @virtual
    def test_nested_in_finally(self):
        with self.assertRaises(TimeoutError) as caught:
            with timeout(SHORT):
                try:
                    time.sleep(LONG)
                finally:
                    with self.assertRaises(TimeoutError) as caught2:
                        with timeout(SHORT):
                            time.sleep(LONG)
        interrupt = caught.exception.__cause__
        self.assertIsInstance(interrupt, Interrupted)
        self.assertIsNone(interrupt.__context__)
        interrupt2 = caught2.exception.__cause__
        self.assertIsInstance(interrupt2, Interrupted)
        self.assertIs(interrupt2.__context__, interrupt)
        self.assertIs(caught2.exception.__context__, interrupt2)

    @virtual
    def test_after_interrupt(self):
        try:
            threading.current_thread().interrupt()
            time.sleep(LONG)
        except Interrupted:
            with self.assertRaises(TimeoutError):
                with timeout(0):
                    time.sleep(LONG)
            with self.assertRaises(Interrupted):
                with timeout(LONG):
                    threading.current_thread().interrupt()
                    time.sleep(LONG)
        else:
            self.fail("not interrupted")

    @virtual
    def test_entered_twice(self):
        with timeout(LONG) as cm:
            with self.assertRaisesRegex(RuntimeError, "has already been entered"):
                with cm:
                    pass
        with self.assertRaisesRegex(RuntimeError, "has already been entered"):
            with cm:
                pass

    @virtual
    def test_state_errors(self):
        cm = timeout(LONG)
        with self.assertRaisesRegex(RuntimeError, "has not been entered"):
            cm.reschedule(1)
        with cm:
            pass
        with self.assertRaisesRegex(RuntimeError, "finished"):
            cm.reschedule(1)
        with self.assertRaises(TimeoutError):
            with timeout(0) as cm:
                time.sleep(LONG)
        with self.assertRaisesRegex(RuntimeError, "expired"):
            cm.reschedule(1)
        with timeout(0) as cm:
            with self.assertRaises(Interrupted):
                time.sleep(LONG)
            with self.assertRaisesRegex(RuntimeError, "expiring"):
                cm.reschedule(1)
        self.assertTrue(cm.expired())

    @virtual
    def test_other_thread(self):
        with timeout(LONG) as cm:
            def reschedule():
                with self.assertRaisesRegex(RuntimeError, "another thread"):
                    cm.reschedule(0)

            self.call(reschedule)
            time.sleep(0.001)

    def test_platform_thread(self):
        cm = timeout(LONG)
        with self.assertRaisesRegex(RuntimeError, "virtual threads only"):
            with cm:
                self.fail("entered")
        with self.assertRaisesRegex(RuntimeError, "has not been entered"):
            cm.reschedule(1)

    def test_each_thread_its_own(self):
        event = threading.Event()

        def expire():
            with timeout(SHORT):
                event.wait()

        waiter = spawn(event.wait)
        for outcome in self.call_all([self.catch(expire)] * COUNT):
            self.assertIsInstance(outcome, TimeoutError)
        self.assertTrue(waiter.is_alive())
        event.set()
        self.join([waiter])

    @staticmethod
    def catch(func):
        def run():
            try:
                return func()
            except Exception as exc:
                return exc
        return run

    def test_abandoned_block(self):
        # In a generator that outlives its thread.
        def generate():
            with timeout(SHORT):
                yield

        kept = []

        def run():
            gen = generate()
            next(gen)
            kept.append(gen)

        self.call(run)
        threads = [spawn(time.sleep, 2 * SHORT) for _ in range(COUNT)]
        self.join(threads)
        with self.assertRaises(RuntimeError):
            kept[0].close()

    @virtual
    def test_part_of_a_line(self):
        # As docs/INTERRUPTS.md says, it is lost with the call that has read it.
        read_fd, write_fd = os.pipe()
        with open(read_fd, 'rb') as reader, open(write_fd, 'wb', 0) as writer:
            writer.write(b"abc")
            with self.assertRaises(TimeoutError):
                with timeout(SHORT):
                    reader.readline()
            writer.write(b"def\n")
            self.assertEqual(reader.readline(), b"def\n")

    @virtual
    def test_exit_without_enter(self):
        cm = timeout(LONG)
        with self.assertRaisesRegex(RuntimeError, "has not been entered"):
            cm.__exit__(None, None, None)
        with cm:
            pass
        with self.assertRaisesRegex(RuntimeError, "has already been left"):
            cm.__exit__(None, None, None)
        self.assertFalse(cm.expired())
        with self.assertRaises(TimeoutError):
            with timeout(0) as cm:
                time.sleep(LONG)
        with self.assertRaisesRegex(RuntimeError, "has already been left"):
            cm.__exit__(None, None, None)
        self.assertTrue(cm.expired())


class LeftElsewhereTests(TestCase):
    """A timeout whose block another thread ends: RuntimeError there, and no alarm here."""

    @staticmethod
    def enter(seconds):
        def generate():
            with timeout(seconds) as cm:
                yield cm

        generator = generate()
        return generator, next(generator)

    def leave(self, generator):
        with self.assertRaisesRegex(RuntimeError, "belongs to another thread"):
            generator.close()

    @virtual
    def test_no_alarm_stays(self):
        for call in self.call, self.call_in_platform_thread:
            with self.subTest(call=call.__name__):
                with timeout(LONG) as outer:
                    generator, cm = self.enter(LONG)
                    outer_when = outer.when()
                    cm.reschedule(outer_when - 1)
                    self.assertLess(_vthread.next_alarm(), outer_when - 0.5)
                    call(self.leave, generator)
                    self.assertGreater(_vthread.next_alarm(), outer_when - 0.5)
                self.assertIsNone(_vthread.next_alarm())
                self.assertEqual(repr(cm), "<Timeout [finished]>")
                self.assertFalse(cm.expired())
                with self.assertRaisesRegex(RuntimeError, "has already been left"):
                    cm.__exit__(None, None, None)

    def call_in_platform_thread(self, func, *args):
        thread = threading.Thread(target=func, args=args)
        thread.start()
        thread.join()

    def test_later_thread_with_its_ident(self):
        # The structs of threads, and so their idents, are used again.
        def enter():
            entered[threading.get_ident()] = self.enter(LONG)
            barrier.wait()

        def leave():
            barrier.wait()
            generator, cm = entered.pop(threading.get_ident(), (None, None))
            if generator is not None:
                self.leave(generator)
                left.append(cm)

        entered, left = {}, []
        barrier = threading.Barrier(COUNT)
        self.call_all([enter] * COUNT)
        self.call_all([leave] * COUNT)
        for generator, _ in entered.values():
            self.leave(generator)
        self.assertTrue(left, "no ident was used again")
        self.assertFalse(any(cm.expired() for cm in left))

    def check_goes_on(self, block, release):
        """block() is in its wait when the timeout is left, and when its time comes."""
        # Where the machine is so slow that the time comes before, it gets more.
        seconds = SHORT
        while not self.goes_on(block, release, seconds):
            seconds *= 4
            self.assertLess(seconds, TIMEOUT)

    def goes_on(self, block, release, seconds):
        entered = queue.SimpleQueue()

        def wait():
            generator, cm = self.enter(seconds)
            entered.put((threading.current_thread(), generator, cm.when()))
            try:
                block()
            except Interrupted:
                return False
            return True

        def leave():
            thread, generator, when = entered.get()
            try:
                self.wait_until(lambda: thread.state in ("parked", "pinned", "terminated"),
                                "a thread that waits", delay=0.001)
                self.leave(generator)
                time.sleep(max(when - time.monotonic(), 0) + SHORT)
            finally:
                if thread.is_alive():
                    release()

        return self.call_all([wait, leave])[0]

    def test_waits_go_on(self):
        semaphore = threading.Semaphore(0)
        lock = threading.Lock()
        lock.acquire()
        simple_queue = queue.SimpleQueue()
        a, b = socket.socketpair()
        self.addCleanup(a.close)
        self.addCleanup(b.close)
        cases = {
            "lock": (lock.acquire, lock.release),
            "lock below C": (lambda: list(map(lock.acquire, [True])), lock.release),
            "condition": (semaphore.acquire, semaphore.release),
            "queue": (simple_queue.get, lambda: simple_queue.put(1)),
            "socket": (lambda: a.recv(1), lambda: b.send(b"x")),
            "select": (lambda: (select.select([a], [], []), a.recv(1)), lambda: b.send(b"x")),
        }
        for name, (block, release) in cases.items():
            with self.subTest(name):
                self.check_goes_on(block, release)
            with self.subTest(name, pinned=True):
                self.check_goes_on(self.pinned(block), release)

    @staticmethod
    def pinned(block):
        def run():
            with pin():
                block()
        return run


class BlockingCallTests(BlockingCalls, InterruptCase, SocketTestCase):
    """A timeout around any blocking call, parked and pinned."""

    def check(self, block):
        def run(manager):
            with manager(), self.assertRaises(TimeoutError):
                with timeout(SHORT) as cm:
                    block()
            self.assertTrue(cm.expired())
            time.sleep(0.001)

        for manager in contextlib.nullcontext, pin:
            with self.subTest(manager=manager.__name__):
                self.call(run, manager)

    def test_shorter_timeout_of_the_call(self):
        # It ends as ever, and the block goes on.
        def run():
            lock = threading.Lock()
            a, b = socket.socketpair()
            with a, b, lock, timeout(LONG) as cm:
                self.assertFalse(lock.acquire(timeout=0.001))
                with self.assertRaises(queue.Empty):
                    queue.SimpleQueue().get(timeout=0.001)
                a.settimeout(0.001)
                with self.assertRaises(TimeoutError):
                    a.recv(1)
                self.assertEqual(select.select([a], [], [], 0.001), ([], [], []))
                with pin():
                    self.assertFalse(lock.acquire(timeout=0.001))
                    self.assertEqual(select.select([a], [], [], 0.001), ([], [], []))
            self.assertFalse(cm.expired())

        self.call(run)

    def test_finalizer(self):
        # Not raised there, but by the next blocking call.
        done = []

        class Object:
            def __del__(self):
                time.sleep(2 * SHORT)
                done.append(1)

        def run():
            with self.assertRaises(TimeoutError):
                with timeout(SHORT):
                    obj = Object()
                    del obj
                    time.sleep(LONG)

        self.call(run)
        self.assertEqual(done, [1])


if __name__ == "__main__":
    unittest.main()

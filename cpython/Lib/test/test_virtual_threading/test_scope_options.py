"""TaskScope's options: limits, deadlines, and first()."""

import contextlib
import threading
import time
import unittest

from test.test_virtual_threading.scope_util import MyError, ScopeTestCase, both, crash, sleep
from test.test_virtual_threading.util import COUNT, LONG, SHORT, TIMEOUT, virtual
from unittest import mock
from virtual_threading import Interrupted, ScopeCancelled, TaskScope, timeout


class ConcurrencyTests(ScopeTestCase):

    @both
    def test_limit(self):
        lock = threading.Lock()
        running = most = 0

        def child():
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.001)
            with lock:
                running -= 1

        with TaskScope(max_concurrency=3) as scope:
            tasks = [scope.spawn(child) for _ in range(COUNT)]
        self.assertLessEqual(most, 3)
        self.assertTrue(all(task.done() and task.thread for task in tasks))

    @both
    def test_cancel_waiting(self):
        event = threading.Event()
        with TaskScope(max_concurrency=1) as scope:
            first = scope.spawn(event.wait, TIMEOUT)
            waiting = [scope.spawn(int) for _ in range(3)]
            self.assertIsNone(waiting[0].thread)
            self.assertFalse(waiting[0].running())
            self.assertTrue(waiting[1].cancel())
            self.assertFalse(waiting[1].cancel())
            self.assertTrue(waiting[1].cancelled())
            event.set()
        self.assertTrue(first.result())
        self.assertEqual([waiting[0].result(), waiting[2].result()], [0, 0])

    @both
    def test_failure_drops_waiting(self):
        with self.assertRaises(ExceptionGroup):
            with TaskScope(max_concurrency=1) as scope:
                event = threading.Event()

                def child():
                    event.wait(TIMEOUT)
                    1/0

                scope.spawn(child)
                waiting = [scope.spawn(int) for _ in range(3)]
                event.set()
        self.assertTrue(all(task.cancelled() for task in waiting))
        self.assertTrue(all(task.thread is None for task in waiting))

    @both
    def test_turn_without_a_thread(self):
        # The thread of one that waits for its turn can't be started.
        def start(thread):
            raise RuntimeError("can't start new thread")

        event = threading.Event()
        with (self.assertRaises(ExceptionGroup) as caught,
              contextlib.ExitStack() as patches,
              TaskScope(max_concurrency=1) as scope):
            first = scope.spawn(event.wait, TIMEOUT)
            waiting = [scope.spawn(int) for _ in range(2)]
            patches.enter_context(mock.patch.object(type(first.thread), "start", start))
            event.set()
        self.assertTrue(first.result())
        self.assertIsInstance(waiting[0].exception(), RuntimeError)
        self.assertEqual(caught.exception.exceptions, (waiting[0].exception(),))
        self.assertIsNone(waiting[0].thread)
        self.assertTrue(waiting[1].cancelled())

    def test_bad_value(self):
        for value in 0, -1:
            with self.assertRaises(ValueError):
                TaskScope(max_concurrency=value)
        for value in 1.5, float("nan"), "1":
            with self.assertRaises(TypeError):
                TaskScope(max_concurrency=value)

    @both
    def test_cancel_dropped(self):
        # By the callback of another one that was dropped with it.
        said = []
        with self.assertRaises(ExceptionGroup):
            with TaskScope(max_concurrency=1) as scope:
                scope.spawn(sleep)
                waiting = [scope.spawn(sleep) for _ in range(3)]
                waiting[0].add_done_callback(
                    lambda _: said.extend(task.cancel() for task in waiting))
                crash()
        self.assertEqual(said, [False] * 3)
        self.assertTrue(all(task.cancelled() for task in waiting))


class DeadlineTests(ScopeTestCase):

    @both
    def test_children(self):
        tasks = []
        with self.assertRaises(TimeoutError):
            with TaskScope(deadline=time.monotonic() + SHORT) as scope:
                for _ in range(5):
                    tasks.append(scope.spawn(sleep))
        self.assertTrue(all(task.cancelled() for task in tasks))

    @both
    def test_spawn_when_it_is_over(self):
        # What spawn() raises then is no failure of the body's own.
        with self.assertRaises(TimeoutError):
            with TaskScope(deadline=time.monotonic() + SHORT) as scope:
                scope.spawn(sleep)
                while True:
                    scope.spawn(int)

    @virtual
    def test_body(self):
        with self.assertRaises(TimeoutError):
            with TaskScope(deadline=time.monotonic() + SHORT) as scope:
                task = scope.spawn(sleep)
                sleep()
        self.assertTrue(task.cancelled())

    @both
    def test_never(self):
        for value in float("inf"), 1e300:
            with TaskScope(deadline=value) as scope:
                task = scope.spawn(int)
            self.assertEqual(task.result(), 0)

    def test_bad_value(self):
        for value in "5", object():
            with self.assertRaises(TypeError):
                TaskScope(deadline=value)
        with self.assertRaises(ValueError):
            TaskScope(deadline=float("nan"))

    @both
    def test_not_reached(self):
        with TaskScope(deadline=time.monotonic() + LONG) as scope:
            task = scope.spawn(int)
        self.assertEqual(task.result(), 0)

    @both
    def test_inherited_while_body_computes(self):
        # The child meets the deadline though nobody joins it.
        with self.assertRaises(TimeoutError):
            with TaskScope(deadline=time.monotonic() + SHORT) as scope:
                task = scope.spawn(sleep)
                while not task.done():
                    pass
        self.assertTrue(task.cancelled())

    @virtual
    def test_inherited_from_timeout(self):
        with self.assertRaises(TimeoutError):
            with timeout(SHORT) as cm:
                with TaskScope() as scope:
                    task = scope.spawn(sleep)
                    while not task.done():
                        pass
        self.assertTrue(task.cancelled())
        self.assertTrue(cm.expired())

    @virtual
    def test_inherited_by_grandchildren(self):
        def child():
            with TaskScope() as inner:
                inner.spawn(sleep)

        with self.assertRaises(TimeoutError):
            with TaskScope(deadline=time.monotonic() + SHORT) as scope:
                scope.spawn(child)

    @virtual
    def test_failure_on_timeout(self):
        def child():
            try:
                sleep()
            finally:
                1/0

        with self.assertRaises(ExceptionGroup) as caught:
            with timeout(SHORT):
                with TaskScope() as scope:
                    scope.spawn(child)
                    try:
                        raise ValueError
                    finally:
                        sleep()
        # The group is raised while the timeout is handled.
        error = caught.exception.__context__
        self.assertIsInstance(error, TimeoutError)
        self.assertIsInstance(error.__cause__, Interrupted)
        self.assertIsInstance(error.__cause__.__context__, ValueError)
        # In the child there was no timeout, for which asyncio has one more TimeoutError.
        [crashed] = caught.exception.exceptions
        self.assertIsInstance(crashed, ZeroDivisionError)
        self.assertIsInstance(crashed.__context__, ScopeCancelled)
        self.assertIsNone(crashed.__context__.__context__)
        time.sleep(0.001)


class FirstTests(ScopeTestCase):

    @both
    def test_first_success(self):
        with TaskScope.first() as scope:
            slow = scope.spawn(sleep)
            scope.spawn(int, "42")
        self.assertEqual(scope.result(), 42)
        self.assertTrue(slow.cancelled())

    @both
    def test_failures_are_dropped(self):
        with TaskScope.first(name="race") as scope:
            failed = scope.spawn(crash)
            self.assertIsInstance(failed.exception(TIMEOUT), ZeroDivisionError)
            scope.spawn(int, "42")
        self.assertEqual(scope.result(), 42)
        self.assertEqual(scope.name, "race")

    @both
    def test_none_succeeds(self):
        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope.first(max_concurrency=1) as scope:
                scope.spawn(crash)
                scope.spawn(crash)
        self.assertEqual(self.error_types(caught.exception), ["ZeroDivisionError"] * 2)
        with self.assertRaises(RuntimeError):
            scope.result()

    @both
    def test_no_children(self):
        with TaskScope.first() as scope:
            pass
        with self.assertRaisesRegex(RuntimeError, "no child"):
            scope.result()

    @virtual
    def test_body_is_interrupted(self):
        with TaskScope.first() as scope:
            scope.spawn(int, "1")
            sleep()
            self.fail("not interrupted")
        self.assertEqual(scope.result(), 1)

    @virtual
    def test_success_during_cleanup(self):
        # The interrupt that the body cleans up after is not lost.
        with self.assertRaises(Interrupted) as caught:
            with TaskScope.first() as scope:
                try:
                    threading.current_thread().interrupt()
                    sleep()
                except Interrupted:
                    scope.spawn(int)
                    sleep()
        self.assertIs(type(caught.exception), Interrupted)
        self.assertEqual(scope.result(), 0)

    @both
    def test_body_fails(self):
        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope.first() as scope:
                scope.spawn(sleep)
                raise MyError
        self.assertEqual(self.error_types(caught.exception), ["MyError"])

    @both
    def test_deadline(self):
        with self.assertRaises(TimeoutError):
            with TaskScope.first(deadline=time.monotonic() + SHORT) as scope:
                scope.spawn(sleep)

    @both
    def test_bare_exceptions(self):
        def child():
            raise SystemExit

        with self.assertRaises(SystemExit):
            with TaskScope.first() as scope:
                scope.spawn(child)


if __name__ == "__main__":
    unittest.main()

"""TaskScope, after the tests of asyncio.TaskGroup."""

import concurrent.futures
import contextlib
import contextvars
import functools
import gc
import io
import json
import os
import threading
import time
import unittest
import virtual_threading
import weakref

from concurrent.futures import CancelledError
from test import support
from test.support import script_helper
from test.test_virtual_threading.util import COUNT, TIMEOUT, TestCase
from unittest import mock
from virtual_threading import Interrupted, ScopeCancelled, TaskScope, spawn, timeout

LONG = 1000     # seconds; longer than any test may take
SHORT = 0.01


class MyError(Exception):
    pass


class MyBaseError(BaseException):
    pass


def virtual(method):
    """Runs a test in a virtual thread."""
    @functools.wraps(method)
    def run(self):
        self.call(method, self)
    return run


def both(method):
    """Runs a test in a virtual thread and in a platform thread."""
    @functools.wraps(method)
    def run(self):
        with self.subTest("platform"):
            method(self)
        with self.subTest("virtual"):
            self.call(method, self)
    return run


def sleep():
    time.sleep(LONG)


def crash():
    1/0


class ScopeTestCase(TestCase):

    def error_types(self, group):
        return sorted(type(exc).__name__ for exc in group.exceptions)

    def interrupting(self, func, ready):
        """Runs func in a virtual thread that is interrupted; what it raises."""
        outcome = []

        def run():
            try:
                outcome.append(func())
            except BaseException as exc:
                outcome.append(exc)

        thread = spawn(run)
        self.wait_until(ready, "ready to be interrupted")
        self.wait_until(lambda: thread.state in ("parked", "pinned"), "a parked body")
        thread.interrupt()
        self.join([thread])
        return outcome.pop()


class ScopeTests(ScopeTestCase):

    @both
    def test_results(self):
        with TaskScope() as scope:
            a = scope.spawn(lambda x: x, 42)
            b = scope.spawn(lambda *, x: x, x=11)
        self.assertEqual(a.result(), 42)
        self.assertEqual(b.result(), 11)
        self.assertIsNone(a.exception())
        self.assertTrue(a.done())
        self.assertFalse(a.running())
        self.assertFalse(a.cancelled())
        self.assertFalse(a.cancel())

    @both
    def test_waits_for_children(self):
        event = threading.Event()
        with TaskScope() as scope:
            tasks = [scope.spawn(event.wait) for _ in range(COUNT)]
            scope.spawn(event.set)
        for task in tasks:
            self.assertTrue(task.done())
            self.assertFalse(task.thread.is_alive())
            self.assertTrue(virtual_threading.is_virtual(task.thread))

    @both
    def test_empty(self):
        with TaskScope() as scope:
            pass
        self.assertIn("finished", repr(scope))

    @both
    def test_spawn_from_child(self):
        results = []

        def child(depth):
            results.append(depth)
            if depth:
                scope.spawn(child, depth - 1)
                scope.spawn(child, depth - 1)

        with TaskScope() as scope:
            scope.spawn(child, 4)
        self.assertEqual(len(results), 31)

    @both
    def test_cancel_child(self):
        seen = []

        def child():
            try:
                sleep()
            except ScopeCancelled:
                seen.append("cancelled")
                raise

        with TaskScope() as scope:
            task = scope.spawn(child)
            self.assertTrue(task.cancel())
            other = scope.spawn(int, "1")
        self.assertTrue(task.cancelled())
        self.assertTrue(task.done())
        with self.assertRaises(CancelledError):
            task.result()
        self.assertEqual(other.result(), 1)
        self.assertEqual(seen, ["cancelled"])

    @both
    def test_interrupted_child_is_cancelled(self):
        with TaskScope() as scope:
            task = scope.spawn(sleep)
            task.thread.interrupt()
        self.assertTrue(task.cancelled())

    @both
    def test_child_suppresses_cancel(self):
        def child():
            try:
                sleep()
            except ScopeCancelled:
                return "went on"

        with TaskScope() as scope:
            task = scope.spawn(child)
            task.cancel()
        self.assertEqual(task.result(), "went on")

    @both
    def test_failure_interrupts_siblings(self):
        after = []
        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as scope:
                tasks = [scope.spawn(sleep) for _ in range(COUNT)]
                failed = scope.spawn(crash)
            after.append(1)
        self.assertEqual(self.error_types(caught.exception), ["ZeroDivisionError"])
        self.assertIsInstance(failed.exception(), ZeroDivisionError)
        self.assertIs(caught.exception.exceptions[0], failed.exception())
        self.assertTrue(all(task.cancelled() for task in tasks))
        self.assertEqual(after, [])

    @virtual
    def test_failure_interrupts_body(self):
        seen = []
        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as scope:
                scope.spawn(crash)
                try:
                    sleep()
                except ScopeCancelled:
                    seen.append(1)
                    raise
        self.assertEqual(self.error_types(caught.exception), ["ZeroDivisionError"])
        self.assertEqual(seen, [1])
        time.sleep(0.001)       # nothing is left

    @virtual
    def test_body_suppresses_interrupt(self):
        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as scope:
                scope.spawn(crash)
                with self.assertRaises(ScopeCancelled):
                    sleep()
        self.assertEqual(self.error_types(caught.exception), ["ZeroDivisionError"])

    @virtual
    def test_undelivered_interrupt_of_body(self):
        # The body does not wait any more: nothing must be raised later.
        with self.assertRaises(ExceptionGroup):
            with TaskScope() as scope:
                task = scope.spawn(crash)
                while not task.done():
                    pass
        time.sleep(0.001)

    def test_platform_body(self):
        # It can't be interrupted, and learns of the failure at its next spawn().
        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as scope:
                task = scope.spawn(crash)
                task.exception()
                self.wait_until(lambda: "given up" in repr(scope), "the failure")
                scope.spawn(sleep)
        self.assertEqual(self.error_types(caught.exception),
                         ["RuntimeError", "ZeroDivisionError"])

    def test_several_failures(self):
        barrier = threading.Barrier(3)

        def child():
            barrier.wait()
            raise MyError

        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as scope:
                for _ in range(3):
                    scope.spawn(child)
        # Those that were interrupted in the barrier are not among them.
        self.assertLessEqual(set(self.error_types(caught.exception)),
                             {"MyError", "BrokenBarrierError"})

    @both
    def test_failure_in_cleanup(self):
        def child():
            try:
                sleep()
            finally:
                raise MyError

        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as scope:
                tasks = [scope.spawn(child) for _ in range(5)]
                self.wait_until(lambda: all(t.thread.state == "parked" for t in tasks),
                                "parked children")
                scope.spawn(crash)
        self.assertEqual(self.error_types(caught.exception),
                         ["MyError"] * 5 + ["ZeroDivisionError"])

    @both
    def test_body_fails(self):
        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as scope:
                tasks = [scope.spawn(sleep), scope.spawn(sleep)]
                raise MyError
        self.assertEqual(self.error_types(caught.exception), ["MyError"])
        self.assertTrue(all(task.cancelled() for task in tasks))

    @virtual
    def test_body_and_child_fail(self):
        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as scope:
                scope.spawn(crash)
                try:
                    sleep()
                finally:
                    raise MyError
        # The body's own comes last.
        self.assertEqual([type(e) for e in caught.exception.exceptions],
                         [ZeroDivisionError, MyError])

    @virtual
    def test_base_exception(self):
        with self.assertRaises(BaseExceptionGroup) as caught:
            with TaskScope() as scope:
                scope.spawn(crash)
                try:
                    sleep()
                finally:
                    raise MyBaseError
        self.assertNotIsInstance(caught.exception, ExceptionGroup)
        self.assertEqual(self.error_types(caught.exception),
                         ["MyBaseError", "ZeroDivisionError"])

    @both
    def test_bare_exceptions(self):
        def child(exc):
            raise exc

        for exc in KeyboardInterrupt, SystemExit:
            with self.assertRaises(exc):
                with TaskScope() as scope:
                    task = scope.spawn(sleep)
                    scope.spawn(child, exc)
            self.assertTrue(task.cancelled())
            with self.assertRaises(exc):
                with TaskScope() as scope:
                    scope.spawn(sleep)
                    raise exc
            with self.assertRaises(exc):
                with TaskScope() as scope:
                    scope.spawn(crash).exception(TIMEOUT)
                    scope.spawn(sleep) if False else None
                    raise exc

    @both
    def test_group_chain(self):
        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope():
                raise MyError
        self.assertTrue(caught.exception.__suppress_context__)
        self.assertIsNone(caught.exception.__cause__)

    @both
    def test_state_errors(self):
        scope = TaskScope(name="mine")
        with self.assertRaisesRegex(RuntimeError, "'mine'.*has not been entered"):
            scope.spawn(int)
        with scope:
            with self.assertRaisesRegex(RuntimeError, "has already been entered"):
                with scope:
                    pass
        with self.assertRaisesRegex(RuntimeError, "is finished"):
            scope.spawn(int)
        with self.assertRaisesRegex(RuntimeError, "has already been entered"):
            with scope:
                pass

    def test_no_spawn_after_failure(self):
        seen = []

        def late(scope):
            try:
                sleep()
            except ScopeCancelled:
                with self.assertRaisesRegex(RuntimeError, "is shutting down"):
                    scope.spawn(int)
                seen.append(1)
                raise

        with self.assertRaises(ExceptionGroup):
            with TaskScope() as scope:
                task = scope.spawn(late, scope)
                self.wait_until(lambda: task.thread.state == "parked", "a parked child")
                scope.spawn(crash)
        self.assertEqual(seen, [1])

    @both
    def test_context(self):
        var = contextvars.ContextVar("var", default=0)
        var.set(1)

        def child():
            seen = var.get()
            var.set(seen + 10)
            return seen

        with TaskScope() as scope:
            a = scope.spawn(child)
            var.set(2)
            b = scope.spawn(child)
        self.assertEqual((a.result(), b.result(), var.get()), (1, 2, 2))

    @both
    def test_names(self):
        with TaskScope(name="fetchers") as scope:
            task = scope.spawn(sleep)
            self.assertEqual(scope.name, "fetchers")
            self.assertIn("sleep", task.thread.name)
            task.cancel()
        self.assertRegex(TaskScope().name, r"TaskScope-\d+")

    @both
    def test_futures(self):
        # They work with the tools for futures.
        with TaskScope() as scope:
            tasks = [scope.spawn(int, str(i)) for i in range(5)]
            done = concurrent.futures.as_completed(tasks, TIMEOUT)
            self.assertEqual({task.result() for task in done}, set(range(5)))
            event = threading.Event()
            task = scope.spawn(sleep)
            task.add_done_callback(lambda task: event.set())
            self.assertTrue(task.running())
            task.cancel()
            done, _ = concurrent.futures.wait([task], TIMEOUT)
            self.assertEqual(done, {task})
            self.wait_for(event)

    def test_many(self):
        with TaskScope() as scope:
            for i in range(3000):
                scope.spawn(int)
            self.assertLess(len(scope._tasks), 3001)

    def test_references(self):
        class Object:
            pass

        obj = Object()
        ref = weakref.ref(obj)

        def child(obj):
            raise MyError

        try:
            with TaskScope() as scope:
                task = scope.spawn(child, obj)
        except* MyError:
            pass
        del obj, task, scope
        self.wait_until(lambda: gc.collect() >= 0 and ref() is None, "no reference")


class InterruptedBodyTests(ScopeTestCase):
    """The body is interrupted from outside."""

    def test_in_exit(self):
        tasks = []

        def body():
            with TaskScope() as scope:
                tasks.extend(scope.spawn(sleep) for _ in range(5))

        exc = self.interrupting(body, lambda: len(tasks) == 5)
        self.assertIs(type(exc), Interrupted)
        self.assertTrue(all(task.cancelled() for task in tasks))

    def test_in_body(self):
        tasks = []
        seen = []

        def body():
            with TaskScope() as scope:
                tasks.extend(scope.spawn(sleep) for _ in range(5))
                try:
                    sleep()
                except Interrupted:
                    seen.append(1)
                    raise

        exc = self.interrupting(body, lambda: len(tasks) == 5)
        self.assertIs(type(exc), Interrupted)
        self.assertTrue(all(task.cancelled() for task in tasks))
        self.assertEqual(seen, [1])

    def test_without_children(self):
        entered = threading.Event()

        def body():
            with TaskScope():
                entered.set()
                sleep()

        self.assertIs(type(self.interrupting(body, entered.is_set)), Interrupted)

    def test_body_raises_another(self):
        entered = threading.Event()

        def body():
            with TaskScope():
                entered.set()
                try:
                    sleep()
                except Interrupted:
                    raise MyError

        exc = self.interrupting(body, entered.is_set)
        self.assertEqual(self.error_types(exc), ["MyError"])

    def test_children_fail_in_cleanup(self):
        tasks = []

        def child():
            try:
                sleep()
            finally:
                1/0

        def body():
            try:
                with TaskScope():
                    with TaskScope() as scope:
                        tasks.extend(scope.spawn(child) for _ in range(5))
                        self.wait_until(
                            lambda: all(t.thread.state == "parked" for t in tasks),
                            "parked children")
                        tasks.append(None)
                        sleep()
            finally:
                # The interrupt has given way to the group, and comes again.
                with self.assertRaises(Interrupted):
                    sleep()

        exc = self.interrupting(body, lambda: len(tasks) == 6)
        self.assertEqual(self.error_types(exc), ["ExceptionGroup"])
        self.assertEqual(self.error_types(exc.exceptions[0]), ["ZeroDivisionError"] * 5)

    def test_slow_child(self):
        # A child can't outlive its scope, even if it does not end when it is told to.
        event = threading.Event()
        tasks = []

        def child():
            try:
                sleep()
            except ScopeCancelled:
                event.wait(TIMEOUT)
                return "at last"

        def body():
            try:
                with TaskScope() as scope:
                    tasks.append(scope.spawn(child))
            finally:
                tasks.append(tasks[0].done())

        outcome = []

        def run():
            try:
                body()
            except Interrupted as exc:
                outcome.append(exc)

        thread = spawn(run)
        self.wait_until(lambda: tasks and tasks[0].thread.state == "parked", "a child")
        self.wait_until(lambda: thread.state == "parked", "a body in the join")
        thread.interrupt()
        thread.interrupt()
        self.wait_until(lambda: not tasks[0].done(), "a child that goes on")
        self.assertEqual(len(tasks), 1)
        event.set()
        self.join([thread])
        self.assertEqual(tasks[1], True)
        self.assertEqual(tasks[0].result(), "at last")
        self.assertEqual(len(outcome), 1)

    def test_blocking_read(self):
        # Reads of pipes are interrupted; of regular files, they end first.
        r, w = os.pipe()
        with open(r, "rb"), open(w, "wb"):
            tasks = []

            def body():
                with TaskScope() as scope:
                    tasks.append(scope.spawn(os.read, r, 1))

            exc = self.interrupting(body, lambda: tasks)
            self.assertIs(type(exc), Interrupted)
            self.assertTrue(tasks[0].cancelled())

        def read():
            with open(__file__) as file:
                text = file.read()
            sleep()
            return text

        with self.assertRaises(ExceptionGroup):
            with TaskScope() as scope:
                task = scope.spawn(read)
                scope.spawn(crash)
        self.assertTrue(task.cancelled())


class NestedTests(ScopeTestCase):

    @both
    def test_outer_fails(self):
        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as outer:
                def child():
                    with TaskScope() as inner:
                        tasks.append(inner.spawn(sleep))

                tasks = []
                outer.spawn(child)
                self.wait_until(lambda: tasks, "the inner scope")
                outer.spawn(crash)
        self.assertEqual(self.error_types(caught.exception), ["ZeroDivisionError"])
        self.assertTrue(tasks[0].cancelled())

    @virtual
    def test_outer_child_interrupts_inner_body(self):
        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as outer:
                outer.spawn(crash)
                with TaskScope() as inner:
                    task = inner.spawn(sleep)
        self.assertEqual(self.error_types(caught.exception), ["ZeroDivisionError"])
        self.assertTrue(task.cancelled())

    @both
    def test_inner_fails(self):
        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as outer:
                task = outer.spawn(sleep)
                with TaskScope() as inner:
                    inner.spawn(crash)
        self.assertEqual(self.error_types(caught.exception), ["ExceptionGroup"])
        self.assertEqual(self.error_types(caught.exception.exceptions[0]),
                         ["ZeroDivisionError"])
        self.assertTrue(task.cancelled())

    @virtual
    def test_both_fail(self):
        with self.assertRaises(ExceptionGroup):
            with TaskScope() as outer:
                failed = outer.spawn(crash)
                with TaskScope() as inner:
                    inner.spawn(crash)
        time.sleep(0.001)


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


class DeadlineTests(ScopeTestCase):

    @both
    def test_children(self):
        with self.assertRaises(TimeoutError):
            with TaskScope(deadline=time.monotonic() + SHORT) as scope:
                tasks = [scope.spawn(sleep) for _ in range(5)]
        self.assertTrue(all(task.cancelled() for task in tasks))

    @virtual
    def test_body(self):
        with self.assertRaises(TimeoutError):
            with TaskScope(deadline=time.monotonic() + SHORT) as scope:
                task = scope.spawn(sleep)
                sleep()
        self.assertTrue(task.cancelled())

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


class SeeingTests(ScopeTestCase):

    def test_dump(self):
        with TaskScope(name="seen") as scope:
            task = scope.spawn(sleep)
            self.wait_until(lambda: task.thread.state == "parked", "a parked child")
            file = io.StringIO()
            virtual_threading.dump(file)
            self.assertIn("in scope 'seen'", file.getvalue())
            file = io.StringIO()
            virtual_threading.dump(file, format="json")
            scopes = {thread["name"]: thread["scope"]
                      for thread in json.loads(file.getvalue())["threads"]}
            self.assertEqual(scopes[task.thread.name], "seen")
            task.cancel()


class MainThreadTests(unittest.TestCase):

    def test_ctrl_c(self):
        # In the main thread, at the block's end.
        script_helper.assert_python_ok("-c", """if True:
            import os, signal, time
            from virtual_threading import TaskScope
            tasks = []
            def child():
                os.kill(os.getpid(), signal.SIGINT)
            try:
                with TaskScope() as scope:
                    tasks.append(scope.spawn(time.sleep, 1000))
                    scope.spawn(child)
            except KeyboardInterrupt:
                assert tasks[0].cancelled()
            else:
                raise AssertionError
            """)


if __name__ == "__main__":
    unittest.main()

"""TaskScope, after the tests of asyncio.TaskGroup."""

import concurrent.futures
import contextvars
import gc
import io
import json
import threading
import time
import unittest
import virtual_threading
import weakref

from concurrent.futures import CancelledError
from test.test_virtual_threading.scope_util import (
    MyBaseError, MyError, ScopeTestCase, both, crash, sleep)
from test.test_virtual_threading.util import COUNT, TIMEOUT, virtual
from virtual_threading import ScopeCancelled, TaskScope


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


if __name__ == "__main__":
    unittest.main()

"""TaskScope, after the tests of asyncio.TaskGroup.

asyncio's tests (test_taskgroup_ left out) and those here, in test_scope_cancel or, with *, in
test_scope_options:

    01, 02                              test_results
    03                                  test_cancel_child
    04                                  test_failure_interrupts_siblings
    cancel_children_on_child_error      test_failure_interrupts_body, test_several_failures
    cancellation, 22                    test_in_exit
    07                                  test_in_body
    08, 11, 12, error_and_cancel        test_children_fail_in_cleanup
    09, 10                              test_body_fails
    13, 14                              test_outer_fails, test_inner_fails
    15, 16                              test_child_fails_during_cleanup
    17, 18                              test_without_children, test_body_raises_another
    19, context_manager_exit_raises     test_body_and_child_fail
    20, _21                             test_bare_exceptions
    20a, 21a                            test_base_exception
    23                                  test_many
    24, 25                              test_spawn_from_child, test_hydra
    task_name                           none: spawn() has no such argument; test_names
    task_context                        none: spawn() has no such argument; test_context
    no_create_task_after_failure        test_no_spawn_after_failure
    already_entered, double_enter,
    finished, not_entered,
    coro_closed_when_tg_closed          test_state_errors
    without_parent_task                 none: platform threads have scopes, too
    cancelling_level_preserved,
    cancellation_does_not_leak          test_failure_interrupts_body,
                                        test_undelivered_interrupt_of_body
    nested_groups_both_cancelled        test_both_fail
    exception_refcycles                 ReferenceTests
    cancels_task_if_created_...         none: spawn() runs nothing of the child
    test_timeouts' timeout_taskgroup    test_failure_on_timeout *
"""

import concurrent.futures
import contextvars
import gc
import io
import itertools
import json
import threading
import time
import unittest
import virtual_threading
import weakref

from concurrent.futures import CancelledError
from test import support
from test.test_virtual_threading.io_util import Hands
from test.test_virtual_threading.scope_util import (
    MyBaseError, MyError, ScopeTestCase, both, crash, sleep)
from test.test_virtual_threading.util import COUNT, SHORT, TIMEOUT, virtual
from virtual_threading import (Interrupted, ScopeCancelled, TaskScope, is_virtual, timeout,
                               yield_now)


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
        # Of the body, and of a child.
        def fail(exc):
            raise exc

        for own, exc in (MyBaseError, MyError), (MyError, MyBaseError):
            with self.assertRaises(BaseExceptionGroup) as caught:
                with TaskScope() as scope:
                    scope.spawn(fail, exc)
                    try:
                        sleep()
                    finally:
                        raise own
            self.assertNotIsInstance(caught.exception, ExceptionGroup)
            self.assertEqual(self.error_types(caught.exception), ["MyBaseError", "MyError"])

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
                    task = scope.spawn(crash)
                    while not task.done():
                        pass
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

    @both
    def test_repr(self):
        with TaskScope(max_concurrency=1) as scope:
            task, waiting = scope.spawn(sleep), scope.spawn(int)
            self.assertRegex(repr(task), "^<Task at 0x[0-9a-f]+ state=running>$")
            self.assertIn("state=pending", repr(waiting))
            task.cancel()
        self.assertIn("state=cancelled", repr(task))
        self.assertIn("state=finished returned int", repr(waiting))

    def test_many(self):
        # Those that have ended are forgotten before the block's end.
        with TaskScope() as scope:
            for i in range(300):
                self.join([scope.spawn(int).thread])
            self.assertLess(len(scope._tasks), 100)

    @virtual
    def test_hydra(self):
        # Each head grows two more, also when it is cut off; that is refused.
        numbers = Hands(itertools.count())

        def hydra():
            number = numbers()
            try:
                if number < 10:
                    yield_now()
                elif number == 10:
                    1/0
                else:
                    sleep()
            finally:
                scope.spawn(hydra)
                scope.spawn(hydra)

        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as scope:
                scope.spawn(hydra)
        failed, refused = caught.exception.split(ZeroDivisionError)
        self.assertEqual(len(failed.exceptions), 1)
        for exc in refused.exceptions:
            self.assertRegex(str(exc), "is shutting down")


class ReferenceTests(ScopeTestCase):
    """Nothing keeps what a scope has raised, though somebody keeps the scope."""

    def setUp(self):
        super().setUp()
        # It would take cycles away.
        self.enterContext(support.disable_gc())

    def check_unreferenced(self, exc):
        # What another OS thread has made may be freed a moment later.
        for _ in support.sleeping_retry(TIMEOUT, error=False):
            if not gc.get_referrers(exc):
                return
        self.fail(f"kept by {gc.get_referrers(exc)}")

    @both
    def test_group(self):
        scope = TaskScope()
        try:
            with scope:
                raise MyError
        except ExceptionGroup as error:
            exc = error
        self.check_unreferenced(exc)

    @both
    def test_error(self):
        scope = TaskScope()
        try:
            with scope:
                raise MyError
        except* MyError as group:
            exc = group.exceptions[0]
        self.check_unreferenced(exc)

    @both
    def test_error_of_child(self):
        # A scope in a child; the child goes with its exception.
        inner = TaskScope()

        def child():
            with inner:
                raise MyError

        scope = TaskScope()
        try:
            with scope:
                ref = weakref.ref(scope.spawn(child))
        except* MyError as group:
            exc = group.exceptions[0].exceptions[0]
        self.wait_until(lambda: ref() is None, "no task")
        self.check_unreferenced(exc)

    @virtual
    def test_interrupt(self):
        # In the body, and where the block's end waits.
        for seconds, in_body in (-1, True), (SHORT, False):
            scope = TaskScope()
            try:
                with timeout(seconds), scope:
                    if in_body:
                        sleep()
                    scope.spawn(sleep)
            except TimeoutError as error:
                exc = error.__cause__
            self.assertIsInstance(exc, Interrupted)
            self.check_unreferenced(exc)

    @both
    def test_bare_exception(self):
        scope = TaskScope()
        try:
            with scope:
                raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            exc = error
        self.check_unreferenced(exc)

    @both
    def test_frames(self):
        # What their variables refer to goes, the scope itself and the child's arguments.
        class Object:
            pass

        def child(obj):
            raise MyError

        def run():
            obj = Object()
            with TaskScope() as scope:
                refs.extend(map(weakref.ref, [obj, scope]))
                scope.spawn(child, obj)
                if is_virtual():
                    sleep()

        refs = []
        try:
            run()
        except* MyError:
            pass
        self.wait_until(lambda: not any(ref() for ref in refs), "no references")


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

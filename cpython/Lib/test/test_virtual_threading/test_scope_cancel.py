"""TaskScope: interrupts from outside, scopes in scopes, Ctrl-C; after asyncio.TaskGroup's tests."""

import os
import threading
import time
import unittest

from test.support import script_helper
from test.test_virtual_threading.scope_util import MyError, ScopeTestCase, both, crash, sleep
from test.test_virtual_threading.util import TIMEOUT, virtual
from virtual_threading import Interrupted, ScopeCancelled, TaskScope, spawn


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

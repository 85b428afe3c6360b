"""TaskScope: interrupts from outside, scopes in scopes; after asyncio.TaskGroup's tests."""

import os
import threading
import time
import unittest

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
        # The scope around it has a child as well, or has none.
        def child():
            try:
                sleep()
            finally:
                1/0

        def body(others, tasks):
            try:
                with TaskScope() as outer:
                    for _ in range(others):
                        outer.spawn(sleep)
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

        for others in 0, 1:
            tasks = []
            exc = self.interrupting(lambda: body(others, tasks), lambda: len(tasks) == 6)
            self.assertEqual(self.error_types(exc), ["ExceptionGroup"])
            self.assertEqual(self.error_types(exc.exceptions[0]), ["ZeroDivisionError"] * 5)

    def test_child_fails_during_cleanup(self):
        # That interrupts the body's cleanup after an interrupt, which comes again.
        steps = []

        def child(cleaning):
            cleaning.wait()
            1/0

        def body():
            cleaning = threading.Event()
            try:
                with TaskScope() as scope:
                    scope.spawn(child, cleaning)
                    try:
                        steps.append("body")
                        sleep()
                    except Interrupted:
                        cleaning.set()
                        try:
                            sleep()
                        except ScopeCancelled:
                            steps.append("cleanup")
                            raise
            finally:
                with self.assertRaises(Interrupted):
                    sleep()

        def nested():
            with TaskScope() as scope:
                scope.spawn(body)

        exc = self.interrupting(body, lambda: steps)
        self.assertEqual(self.error_types(exc), ["ZeroDivisionError"])
        self.assertEqual(steps, ["body", "cleanup"])
        steps.clear()
        exc = self.interrupting(nested, lambda: steps)
        self.assertEqual(self.error_types(exc), ["ExceptionGroup"])
        self.assertEqual(self.error_types(exc.exceptions[0]), ["ZeroDivisionError"])
        self.assertEqual(steps, ["body", "cleanup"])

    @virtual
    def test_scope_in_cleanup(self):
        # What has brought about the cleanup is over.
        try:
            threading.current_thread().interrupt()
            sleep()
        except Interrupted:
            with self.assertRaises(ExceptionGroup):
                with TaskScope() as scope:
                    scope.spawn(crash)
                    sleep()
            time.sleep(0.001)
        else:
            self.fail("not interrupted")

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
            while "given up" not in repr(scope):
                pass
            with open(__file__) as file:
                texts.append(file.read())
            sleep()

        texts = []
        with self.assertRaises(ExceptionGroup):
            with TaskScope() as scope:
                task = scope.spawn(read)
                scope.spawn(crash)
        self.assertTrue(task.cancelled())
        with open(__file__) as file:
            self.assertEqual(texts, [file.read()])


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
        # Each raises what has failed in it.
        def fail():
            raise MyError

        with self.assertRaises(ExceptionGroup) as caught:
            with TaskScope() as outer:
                with self.assertRaises(ExceptionGroup) as caught_inside:
                    with TaskScope() as inner:
                        inner.spawn(crash)
                        outer.spawn(fail)
        self.assertEqual(self.error_types(caught_inside.exception), ["ZeroDivisionError"])
        self.assertEqual(self.error_types(caught.exception), ["MyError"])
        time.sleep(0.001)


if __name__ == "__main__":
    unittest.main()

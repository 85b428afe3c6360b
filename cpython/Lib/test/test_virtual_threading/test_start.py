"""What a thread's call is started by: at once, or by run() where that may matter."""

import contextvars
import sys
import threading
import traceback
import unittest
import weakref

from test import support
from test.support import script_helper, threading_helper
from test.test_virtual_threading.util import TestCase
from virtual_threading import Interrupted, Thread, spawn


def names(frame):
    found = []
    while frame is not None:
        found.append(frame.f_code.co_name)
        frame = frame.f_back
    return found


class FirstStartTests(unittest.TestCase):

    def test_no_descriptors(self):
        # The pool needs some.  The error is that of threading, and what it is about; when there
        # are some again, the same thread can be started.
        script_helper.assert_python_ok('-c', """if True:
            import errno, os, resource, virtual_threading

            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (20, hard))
            taken = []
            try:
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                pass
            thread = virtual_threading.Thread(target=int)
            try:
                thread.start()
            except RuntimeError as exc:
                error = exc
            for fd in taken:
                os.close(fd)
            assert str(error) == "can't start new thread", error
            assert isinstance(error.__cause__, OSError), error.__cause__
            assert error.__cause__.errno == errno.EMFILE, error.__cause__
            assert thread.ident is None
            thread.start()
            thread.join()
            """)


class StartTests(TestCase):

    def frames(self, thread_class=Thread, **kwargs):
        """The names of a thread's frames, the innermost first."""
        def call(*args, **kwargs):
            seen.extend(names(sys._getframe()))

        seen = []
        thread = thread_class(target=call, **kwargs)
        thread.start()
        self.join([thread])
        return seen

    def test_at_once(self):
        self.assertEqual(self.frames(), ["call"])
        self.assertEqual(self.frames(args=(1, 2)), ["call"])
        self.assertEqual(self.frames(context=contextvars.Context()), ["call"])

    def test_by_run(self):
        by_run = ["call", "run", "_bootstrap"]
        self.assertEqual(self.frames(kwargs={'a': 1}), by_run)
        self.assertEqual(self.frames(args=[1, 2]), by_run)

    def test_run_of_subclass(self):
        class Subclass(Thread):
            def run(self):
                super().run()

        self.assertEqual(self.frames(Subclass), ["call", "run", "run", "_bootstrap"])

    def test_subclass_without_run(self):
        class Subclass(Thread):
            def __init__(self, target):
                super().__init__(target=target)

        self.assertEqual(self.frames(Subclass), ["call"])

    def test_run_of_instance(self):
        class Subclass(Thread):
            def __init__(self, target):
                super().__init__(target=target)
                self.run = self.other

            def other(self):
                super().run()

        self.assertEqual(self.frames(Subclass), ["call", "run", "other", "_bootstrap"])

    def test_replaced_run(self):
        def other(self):
            original(self)

        original = Thread.run
        with support.swap_attr(Thread, 'run', other):
            seen = self.frames()
        self.assertEqual(seen, ["call", "run", "other", "_bootstrap"])

    def test_hooks(self):
        events = []

        def hook(frame, event, arg):
            events.append((frame.f_code.co_name, event))

        for set_hook in (threading.settrace, threading.setprofile):
            with self.subTest(set_hook):
                events.clear()
                self.addCleanup(set_hook, None)
                set_hook(hook)
                self.frames()
                set_hook(None)
                self.assertIn(("run", "call"), events)
                self.assertIn(("call", "call"), events)

    def test_what_is_called(self):
        class Class:
            def method(self, *args):
                seen.append(("method", type(self), args))

            @classmethod
            def class_method(cls, arg):
                seen.append(("class method", cls, arg))

            @staticmethod
            def static_method(arg):
                seen.append(("static method", arg))

            def __call__(self, arg):
                seen.append(("call", type(self), arg))

        def generator(arg):
            seen.append("a generator ran")
            yield

        def defaults(a, b=2, *args, c=3):
            seen.append((a, b, args, c))

        seen = []
        self.join([spawn(Class().method, 1, 2), spawn(Class.class_method, 3),
                   spawn(Class.static_method, 4), spawn(Class(), 5), spawn(generator, 6),
                   spawn(defaults, 7), spawn(defaults, 1, 2, 3), spawn(seen.append, 8)])
        expected = [("method", Class, (1, 2)), ("class method", Class, 3),
                    ("static method", 4), ("call", Class, 5), (7, 2, (), 3),
                    (1, 2, (3,), 3), 8]
        self.assertCountEqual(seen, expected)

    def failure(self, *args, **kwargs):
        """What threading.excepthook is told of a thread."""
        thread = Thread(*args, **kwargs)
        with threading_helper.catch_threading_exception() as caught:
            thread.start()
            self.join([thread])
            if caught.exc_type is None:
                return None
            self.assertIs(caught.thread, thread)
            lines = [entry.name for entry in traceback.extract_tb(caught.exc_traceback)]
            return caught.exc_type, str(caught.exc_value), lines

    def test_exception(self):
        def fail(value):
            raise ValueError(value)

        self.assertEqual(self.failure(target=fail, args=("wrong",)),
                         (ValueError, "wrong", ["fail"]))
        self.assertEqual(self.failure(target=fail, args=["wrong"]),
                         (ValueError, "wrong", ["_bootstrap", "run", "fail"]))

    def test_wrong_arguments(self):
        def call():
            pass

        exc_type, message, lines = self.failure(target=call, args=(1,))
        self.assertIs(exc_type, TypeError)
        self.assertIn("takes 0 positional arguments but 1 was given", message)

    def test_asked_to_end(self):
        def fail(exc):
            raise exc

        for args in ((Interrupted,), [Interrupted]):
            self.assertIsNone(self.failure(target=fail, args=args))
        # As in threading: it is the default hook that is silent of SystemExit.
        for args in ((SystemExit(3),), [SystemExit(3)]):
            self.assertIs(self.failure(target=fail, args=args)[0], SystemExit)

    def test_hook_runs_in_context(self):
        def fail():
            variable.set("of the thread")
            raise ValueError

        def hook(args):
            seen.append((variable.get(None), sys.exception(), threading.current_thread()))

        variable = contextvars.ContextVar("variable")
        seen = []
        context = contextvars.Context()
        thread = Thread(target=fail, context=context)
        with support.swap_attr(threading, 'excepthook', hook):
            thread.start()
            self.join([thread])
        self.assertEqual([(value, type(exc), by) for value, exc, by in seen],
                         [("of the thread", ValueError, thread)])

    def test_hook_that_fails(self):
        def fail():
            raise ValueError("first")

        def hook(args):
            raise LookupError("second")

        with support.swap_attr(threading, 'excepthook', hook), \
                support.captured_stderr() as stderr:
            self.join([spawn(fail)])
        self.assertIn("Exception in threading.excepthook", stderr.getvalue())
        self.assertIn("LookupError: second", stderr.getvalue())

    def test_context_that_is_in_use(self):
        context = contextvars.Context()

        def hold():
            entered.set()
            leave.wait()

        def called():
            self.fail("in a context that another thread runs in")

        entered, leave = self.make_event(), self.make_event()
        thread = Thread(target=hold, context=context)
        thread.start()
        entered.wait()
        exc_type, message, _ = self.failure(target=called, context=context)
        self.assertIs(exc_type, RuntimeError)
        self.assertIn("already entered", message)
        leave.set()
        self.join([thread])
        thread = Thread(target=int, context=context)    # it has been left again
        self.assertIsNone(self.failure(target=threading.get_ident, context=context))

    def test_arguments_are_dropped(self):
        class Argument:
            pass

        def call(arg):
            pass

        argument = Argument()
        reference = weakref.ref(argument)
        thread = Thread(target=call, args=(argument,))
        self.assertIs(thread._target, call)
        thread.start()
        self.assertFalse(hasattr(thread, '_target') or hasattr(thread, '_args'))
        del argument
        self.join([thread])
        self.wait_until(lambda: support.gc_collect() is None and reference() is None,
                        "argument collected")

    def test_not_started(self):
        # What could not be started keeps its call.
        code = """if True:
            import sys
            import virtual_threading

            def refuse(event, args):
                if event == "_thread.start_joinable_thread":
                    raise RuntimeError("can't start new thread")

            def call():
                print("called")

            thread = virtual_threading.Thread(target=call)
            sys.addaudithook(refuse)
            try:
                thread.start()
            except RuntimeError as exc:
                print(exc)
            thread.run()
            """
        _, out, _ = script_helper.assert_python_ok('-c', code)
        self.assertEqual(out.decode().split("\n"), ["can't start new thread", "called", ""])

    def test_target_that_was_taken_away(self):
        # By a class of private habits; run() says what is wrong.
        for attribute in '_target', '_args':
            with self.subTest(attribute):
                thread = Thread(target=names, args=(None,))
                delattr(thread, attribute)
                with threading_helper.catch_threading_exception() as caught:
                    thread.start()
                    self.join([thread])
                    self.assertIs(caught.exc_type, AttributeError)

    def test_who_drops_last(self):
        # What a thread is given is not its own: it or the creator may be the last to drop it.
        class Argument:
            def call(self):
                go.wait()

        go = self.make_event()
        argument = Argument()
        reference = weakref.ref(argument)
        threads = [spawn(argument.call) for _ in range(10)]
        threads += [spawn(Argument.call, argument) for _ in range(10)]
        of_threads = [weakref.ref(thread) for thread in threads]
        self.wait_until(lambda: all(thread.state == 'parked' for thread in threads), "parked")
        del argument, threads
        self.assertIsNotNone(reference())
        go.set()
        self.wait_until(lambda: support.gc_collect() is None and reference() is None
                        and all(ref() is None for ref in of_threads), "all collected")


if __name__ == "__main__":
    unittest.main()

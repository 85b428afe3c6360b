"""virtual_threading.Thread and spawn: the interface of threading.Thread."""

import contextvars
import inspect
import threading
import unittest
import weakref

import virtual_threading
from test import support
from test.test_virtual_threading.util import TestCase
from virtual_threading import Thread, spawn


class ThreadTests(TestCase):

    def test_runs_target(self):
        seen = []
        thread = Thread(target=lambda *args, **kwargs: seen.append((args, kwargs)),
                        args=(1, 2), kwargs={'a': 3})
        thread.start()
        self.join([thread])
        self.assertEqual(seen, [((1, 2), {'a': 3})])

    def test_no_target(self):
        thread = Thread()
        thread.start()
        self.join([thread])

    def test_is_a_thread(self):
        self.assertIsInstance(Thread(), threading.Thread)
        self.assertTrue(issubclass(Thread, threading.Thread))

    def test_subclass(self):
        class Sum(Thread):
            def __init__(self, numbers):
                super().__init__()
                self.numbers = numbers

            def run(self):
                self.result = sum(self.numbers)

        thread = Sum([1, 2, 3])
        thread.start()
        self.join([thread])
        self.assertEqual(thread.result, 6)

    def test_subclass_that_calls_target_itself(self):
        # A common idiom, though the attributes are private.
        class Result(Thread):
            def run(self):
                self.result = self._target(*self._args, **self._kwargs)

        for kwargs in ({'key': abs}, None):
            thread = Result(target=max, args=(1, -2), kwargs=kwargs)
            thread.start()
            self.join([thread])
            self.assertEqual(thread.result, 1 if kwargs is None else -2)

    def test_subclass_whose_init_names_the_other_class(self):
        class Old(threading.Thread):
            def __init__(self):
                threading.Thread.__init__(self, name="old", daemon=True)

            def run(self):
                self.virtual = virtual_threading.is_virtual()

        class New(Old, Thread):
            pass

        thread = New()
        self.assertEqual(thread.name, "old")
        self.assertTrue(thread.daemon)
        thread.start()
        self.join([thread])
        self.assertTrue(thread.virtual)

    def test_other_bases(self):
        class Mixin:
            pass

        class Mixed(Mixin, Thread):
            pass

        seen = []
        thread = Mixed(target=seen.append, args=(1,))
        thread.start()
        self.join([thread])
        self.assertEqual(seen, [1])
        for base in dict, list, Exception:
            with self.subTest(base), self.assertRaisesRegex(TypeError, "lay-out conflict"):
                type("Conflicting", (Thread, base), {})

    def test_init_not_called(self):
        class Forgetful(Thread):
            def __init__(self):
                pass

        thread = Forgetful()
        self.assertRaisesRegex(RuntimeError, "__init__", thread.start)
        self.assertRaisesRegex(RuntimeError, "__init__", thread.join)
        self.assertRaisesRegex(RuntimeError, "__init__", thread.interrupt)
        with self.assertRaisesRegex(RuntimeError, "__init__"):
            thread.daemon = True

    def test_bad_arguments(self):
        self.assertRaises(AssertionError, Thread, group=1)
        self.assertRaisesRegex(TypeError, "context", Thread, context={})
        self.assertRaisesRegex(TypeError, "nonsense", Thread, nonsense=1)
        self.assertRaisesRegex(TypeError, "positional", Thread, None, None, None, (), {}, True)

    def test_arguments_that_fail(self):
        class Fails:
            def __bool__(self):
                raise LookupError

            __str__ = __bool__
            __name__ = property(__bool__)

        class Nameless:
            __bool__ = None

            def __str__(self):
                return "nameless"

        thread = Thread(target=int, name="before", daemon=True)
        for arguments in ({'name': Fails()}, {'target': Fails()}, {'daemon': Fails()}):
            with self.subTest(arguments=list(arguments)):
                self.assertRaises(LookupError, thread.__init__, **arguments)
        self.assertRaises(TypeError, thread.__init__, name=Nameless())
        # It is as it was.
        self.assertEqual(repr(thread), "<Thread(before, initial daemon)>")
        self.assertIs(thread._target, int)

    def test_initialized_again(self):
        seen = []
        thread = Thread(target=seen.append, args=(1,))
        thread.__init__(target=seen.append, args=(2,), name="second")
        self.assertEqual(thread.name, "second")
        thread.start()
        self.join([thread])
        self.assertEqual(seen, [2])

    def test_signature(self):
        expected = list(inspect.signature(threading.Thread).parameters.values())
        expected.append(inspect.Parameter('context', inspect.Parameter.KEYWORD_ONLY, default=None))
        self.assertEqual(list(inspect.signature(Thread).parameters.values()), expected)

    def test_started_twice(self):
        thread = spawn(int)
        self.assertRaisesRegex(RuntimeError, "only be started once", thread.start)
        self.join([thread])
        self.assertRaisesRegex(RuntimeError, "only be started once", thread.start)

    def test_start_from_two_threads(self):
        thread = Thread(target=int)
        barrier = threading.Barrier(2)

        def start():
            barrier.wait()
            try:
                thread.start()
            except RuntimeError:
                return 1
            return 0

        self.assertEqual(sum(self.call_all([start, start])), 1)
        self.join([thread])

    def test_join(self):
        thread = Thread(target=int)
        self.assertRaisesRegex(RuntimeError, "before it is started", thread.join)
        thread.start()
        self.join([thread])
        thread.join()
        thread.join(0)
        thread.join(timeout=-1)
        self.assertRaises(TypeError, thread.join, "1")

    def test_join_timeout(self):
        event = self.make_event()
        thread = spawn(event.wait)
        for timeout in (0, -1, 0.01):
            thread.join(timeout)
            self.assertTrue(thread.is_alive())
        event.set()
        self.join([thread])
        self.assertFalse(thread.is_alive())

    def test_join_self(self):
        def join():
            self.assertRaisesRegex(RuntimeError, "current thread",
                                   threading.current_thread().join)
        self.join([spawn(join)])

    def test_join_waits_for_all(self):
        # Virtual and platform threads join virtual ones.
        event = self.make_event()
        thread = spawn(event.wait)
        waiting = [spawn(thread.join) for _ in range(5)]
        waiting.append(threading.Thread(target=thread.join))
        waiting[-1].start()
        self.assertTrue(all(t.is_alive() for t in waiting))
        event.set()
        self.join(waiting)

    def test_is_alive(self):
        event = self.make_event()
        thread = Thread(target=event.wait)
        self.assertFalse(thread.is_alive())
        thread.start()
        self.assertTrue(thread.is_alive())
        event.set()
        self.join([thread])
        self.assertFalse(thread.is_alive())

    def test_ident(self):
        inside = []
        thread = Thread(target=lambda: inside.append(threading.get_ident()))
        self.assertIsNone(thread.ident)
        thread.start()
        ident = thread.ident
        self.assertGreater(ident, 0)
        self.join([thread])
        self.assertEqual(inside, [ident])
        self.assertEqual(thread.ident, ident)

    def test_idents_differ(self):
        event = self.make_event()
        threads = [spawn(event.wait) for _ in range(100)]
        idents = {t.ident for t in threads} | {threading.get_ident()}
        self.assertEqual(len(idents), 101)
        event.set()
        self.join(threads)

    def test_native_id(self):
        inside = []
        thread = Thread(target=lambda: inside.append((thread.native_id,
                                                      threading.get_native_id())))
        self.assertIsNone(thread.native_id)
        thread.start()
        self.join([thread])
        self.assertIsNone(thread.native_id)
        self.assertIsInstance(inside[0][0], int)
        self.assertIsInstance(inside[0][1], int)

    def test_native_id_of_parked(self):
        event = self.make_event()
        thread = spawn(event.wait)
        self.wait_until(lambda: thread.state == 'parked', "parked")
        self.assertIsNone(thread.native_id)
        event.set()
        self.join([thread])

    def test_state(self):
        event = self.make_event()
        inside = []

        def run():
            inside.append(thread.state)
            event.wait()

        thread = Thread(target=run)
        self.assertEqual(thread.state, "new")
        thread.start()
        self.wait_until(lambda: thread.state == "parked", "parked")
        event.set()
        self.join([thread])
        self.assertEqual(thread.state, "terminated")
        self.assertEqual(inside, ["running"])

    def test_names(self):
        def f():
            pass

        self.assertRegex(Thread().name, r"\AThread-\d+\Z")
        self.assertRegex(Thread(target=f).name, r"\AThread-\d+ \(f\)\Z")
        self.assertEqual(Thread(name="abc").name, "abc")
        self.assertEqual(Thread(name=12).name, "12")
        thread = Thread(target=f)
        name = thread.name
        thread.start()
        self.join([thread])
        self.assertEqual(thread.name, name)
        thread.name = "other"
        self.assertEqual(thread.name, "other")
        thread.name = 5
        self.assertEqual(thread.name, "5")
        self.assertEqual(len({Thread().name for _ in range(10)}), 10)

    def test_repr(self):
        event = self.make_event()
        thread = Thread(target=event.wait, name="abc", daemon=True)
        self.assertEqual(repr(thread), "<Thread(abc, initial daemon)>")
        thread.start()
        self.assertEqual(repr(thread), f"<Thread(abc, started daemon {thread.ident})>")
        event.set()
        self.join([thread])
        self.assertEqual(repr(thread), f"<Thread(abc, stopped daemon {thread.ident})>")

    def test_daemon(self):
        self.assertFalse(Thread().daemon)
        self.assertTrue(Thread(daemon=True).daemon)
        thread = Thread(daemon=True)
        thread.daemon = False
        self.assertFalse(thread.daemon)
        inherited = []
        for daemon in (False, True):
            thread = Thread(target=lambda: inherited.append(Thread().daemon),
                            daemon=daemon)
            thread.start()
            self.join([thread])
            with self.assertRaisesRegex(RuntimeError, "active thread"):
                thread.daemon = True
        self.assertEqual(inherited, [False, True])

    def test_context(self):
        variable = contextvars.ContextVar("variable", default="default")
        variable.set("creator's")
        seen = []
        context = contextvars.copy_context()
        context.run(variable.set, "given")
        for given in (context, None):
            thread = Thread(target=lambda: seen.append(variable.get()), context=given)
            thread.start()
            self.join([thread])
        self.assertEqual(seen, ["given", "default"])

    def test_context_changes_stay(self):
        variable = contextvars.ContextVar("variable")
        context = contextvars.Context()
        thread = Thread(target=variable.set, args=(1,), context=context)
        thread.start()
        self.join([thread])
        self.assertEqual(context[variable], 1)

    def test_drops_references(self):
        class Argument:
            pass

        argument = Argument()
        thread = spawn(id, argument)
        self.join([thread])
        reference = weakref.ref(argument)
        del argument
        support.gc_collect()
        self.wait_until(lambda: support.gc_collect() is None and reference() is None,
                        "argument collected")

    def test_arguments_are_dropped_by_the_call(self):
        class Argument:
            pass

        def run(argument):
            reference = weakref.ref(argument)
            del argument
            self.wait_until(lambda: support.gc_collect() is None and reference() is None,
                            "argument collected")

        thread = Thread(target=run, args=(Argument(),))
        thread.start()
        self.join([thread])

    def test_thread_object_is_collected(self):
        thread = spawn(int)
        self.join([thread])
        reference = weakref.ref(thread)
        del thread
        self.wait_until(lambda: support.gc_collect() is None and reference() is None,
                        "thread collected")


class SpawnTests(TestCase):

    def test_arguments(self):
        seen = []
        thread = spawn(lambda *args, **kwargs: seen.append((args, kwargs)),
                       1, func=2, self=3)
        self.assertIsInstance(thread, Thread)
        self.join([thread])
        self.assertEqual(seen, [((1,), {'func': 2, 'self': 3})])

    def test_func_is_needed(self):
        self.assertRaises(TypeError, spawn)
        self.assertRaises(TypeError, spawn, func=int)

    def test_many(self):
        seen = []
        self.join([spawn(seen.append, number) for number in range(1000)])
        self.assertEqual(sorted(seen), list(range(1000)))

    def test_tree(self):
        # Virtual threads start virtual threads and join them.
        def count(depth):
            if depth:
                sums = [0, 0]

                def child(index):
                    sums[index] = count(depth - 1)

                children = [spawn(child, 0), spawn(child, 1)]
                for thread in children:
                    thread.join()
                return sum(sums)
            return 1

        self.assertEqual(self.call(count, 7), 128)


if __name__ == "__main__":
    unittest.main()

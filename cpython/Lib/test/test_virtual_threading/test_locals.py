"""threading.local and context variables belong to the virtual thread."""

import contextvars
import decimal
import gc
import sys
import threading
import unittest
import weakref

import virtual_threading
from test.test_virtual_threading.util import COUNT, TestCase
from virtual_threading import spawn, yield_now


class LocalTests(TestCase):

    def test_values(self):
        local = threading.local()
        local.value = "main"

        def run(value):
            self.assertFalse(hasattr(local, 'value'))
            local.value = value
            for _ in range(20):
                yield_now()
                self.assertEqual(local.value, value)

        self.call_all([lambda n=n: run(n) for n in range(COUNT)])
        self.assertEqual(local.value, "main")

    def test_subclass_is_initialized_in_each_thread(self):
        class Local(threading.local):
            def __init__(self, start):
                self.value = start

        local = Local(5)

        def run(value):
            self.assertEqual(local.value, 5)
            local.value = value
            yield_now()
            return local.value

        results = self.call_all([lambda n=n: run(n) for n in range(COUNT)])
        self.assertEqual(results, list(range(COUNT)))

    def test_freed_with_the_thread(self):
        class Value:
            pass

        local = threading.local()
        references = []

        def run():
            local.value = Value()
            references.append(weakref.ref(local.value))

        self.call_all([run] * COUNT)
        self.wait_until(lambda: gc.collect() is not None
                        and not any(r() for r in references), "values freed")

    def test_freed_with_the_local(self):
        class Value:
            pass

        holder = [threading.local()]
        references = []
        event = self.make_event()

        def run():
            holder[0].value = Value()
            references.append(weakref.ref(holder[0].value))
            event.wait()

        threads = [spawn(run) for _ in range(COUNT)]
        self.wait_until(lambda: len(references) == COUNT, "values set")
        holder.clear()
        self.wait_until(lambda: gc.collect() is not None
                        and not any(r() for r in references), "values freed")
        event.set()
        self.join(threads)


class ContextTests(TestCase):

    def test_own_context(self):
        variable = contextvars.ContextVar("variable", default=None)
        variable.set("main")

        def run(value):
            self.assertIsNone(variable.get())
            variable.set(value)
            for _ in range(20):
                yield_now()
                self.assertEqual(variable.get(), value)

        self.call_all([lambda n=n: run(n) for n in range(COUNT)])
        self.assertEqual(variable.get(), "main")

    def test_context_run(self):
        variable = contextvars.ContextVar("variable", default=0)

        def run(value):
            context = contextvars.copy_context()
            context.run(variable.set, value)
            yield_now()
            self.assertEqual(variable.get(), 0)
            return context[variable]

        results = self.call_all([lambda n=n: run(n) for n in range(COUNT)])
        self.assertEqual(results, list(range(COUNT)))

    def test_one_context_is_entered_by_one_thread(self):
        context = contextvars.copy_context()
        event = self.make_event()
        entered = self.make_event()

        def enter():
            entered.set()
            event.wait()

        thread = virtual_threading.Thread(target=enter, context=context)
        thread.start()
        self.wait_for(entered)
        with self.assertRaisesRegex(RuntimeError, "already entered"):
            self.call(context.run, int)
        event.set()
        self.join([thread])

    def test_decimal(self):
        def run(precision):
            decimal.getcontext().prec = precision
            for _ in range(20):
                yield_now()
                self.assertEqual(len(str(decimal.Decimal(1) / 3)), precision + 2)

        self.call_all([lambda n=n: run(n) for n in range(3, 30)])


class ExceptionStateTests(TestCase):

    def test_handled_exception(self):
        def run(value):
            try:
                raise ValueError(value)
            except ValueError as exc:
                for _ in range(20):
                    yield_now()
                    self.assertIs(sys.exception(), exc)
                try:
                    raise KeyError(value)
                except KeyError as inner:
                    yield_now()
                    self.assertIs(sys.exception(), inner)
                    self.assertIs(inner.__context__, exc)
                self.assertIs(sys.exception(), exc)
            self.assertIsNone(sys.exception())

        self.call_all([lambda n=n: run(n) for n in range(COUNT)])

    def test_bare_raise(self):
        def run(value):
            with self.assertRaises(ValueError) as caught:
                try:
                    raise ValueError(value)
                except ValueError:
                    yield_now()
                    raise
            return caught.exception.args[0]

        results = self.call_all([lambda n=n: run(n) for n in range(COUNT)])
        self.assertEqual(results, list(range(COUNT)))

    def test_finally_and_generators(self):
        def generate(log):
            try:
                yield 1
                yield_now()
                yield 2
            finally:
                yield_now()
                log.append("closed")

        def run():
            log = []
            for number in generate(log):
                if number == 2:
                    break
            # If the thread has moved, where the generator was made it is closed: soon.
            self.wait_until(lambda: log, "the generator closed")
            return log

        self.assertEqual(self.call_all([run] * 10), [["closed"]] * 10)


if __name__ == "__main__":
    unittest.main()

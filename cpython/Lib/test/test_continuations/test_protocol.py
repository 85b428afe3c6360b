"""Start, send, throw, close, nesting: what is defined by generators, too."""

import copy
import pickle
import sys
import traceback
import unittest

from continuations import Continuation, get_current_continuation, yield_
from test import support
from test.test_continuations.util import Error, in_thread, yielding


class ProtocolTests(unittest.TestCase):

    def test_start_and_send(self):
        def func(a, *, b):
            received = [yield_(a + b)]
            received.append(yield_(2))
            return received

        c = Continuation(func)
        self.assertEqual(c.start(1, b=10), 11)
        self.assertEqual(c.send('x'), 2)
        self.assertEqual(c.send('y'), ['x', 'y'])

    def test_no_yield(self):
        c = Continuation(lambda: 5)
        self.assertEqual(c.start(), 5)
        self.assertTrue(c.completed)

    def test_default_values(self):
        c = Continuation(lambda: yield_())
        self.assertIsNone(c.start())
        self.assertIsNone(c.send())

    def test_run_is_send(self):
        c = Continuation(yielding)
        self.assertEqual(Continuation(lambda: yield_(1)).run(), 1)
        c = Continuation(lambda: yield_(1))
        c.start()
        self.assertEqual(c.run(7), 7)

    def test_send_starts(self):
        c = Continuation(yielding)
        with self.assertRaisesRegex(TypeError, "just-started continuation"):
            c.send(1)
        self.assertFalse(c.started)
        self.assertEqual(c.send(None), 'end')

    def test_attributes(self):
        seen = []
        def func():
            seen.append((c.started, c.executing, c.completed))
            yield_()

        c = Continuation(func)
        self.assertEqual((c.started, c.executing, c.completed), (False, False, False))
        c.start()
        self.assertEqual(seen, [(True, True, False)])
        self.assertEqual((c.started, c.executing, c.completed), (True, False, False))
        c.send(None)
        self.assertEqual((c.started, c.executing, c.completed), (True, False, True))
        with self.assertRaises(AttributeError):
            c.started = False

    def test_repr(self):
        c = Continuation(lambda: yield_(repr(c)))
        self.assertIn("not started", repr(c))
        self.assertIn("executing", c.start())
        self.assertIn("suspended", repr(c))
        c.close()
        self.assertIn("completed", repr(c))

    def test_start_twice(self):
        c = Continuation(yielding)
        c.start(1)
        with self.assertRaisesRegex(RuntimeError, "only be started once"):
            c.start()
        c.send(None)
        with self.assertRaises(RuntimeError):
            c.start()

    def test_ended(self):
        c = Continuation(yielding)
        c.start()
        with self.assertRaisesRegex(RuntimeError, "has ended"):
            c.send(None)
        with self.assertRaises(RuntimeError):
            c.run()

    def test_ended_by_an_exception(self):
        def func():
            raise Error

        c = Continuation(func)
        self.assertRaises(Error, c.start)
        self.assertTrue(c.completed)
        self.assertRaises(RuntimeError, c.send, None)

    def test_already_executing(self):
        def func():
            for call in (c.send, c.run, c.close):
                with self.assertRaisesRegex(ValueError, "already executing"):
                    call()
            with self.assertRaisesRegex(ValueError, "already executing"):
                c.throw(Error)
            self.assertRaises(RuntimeError, c.start)
            return 'done'

        c = Continuation(func)
        self.assertEqual(c.start(), 'done')

    def test_yield_outside(self):
        with self.assertRaisesRegex(RuntimeError, "outside of a continuation"):
            yield_(1)
        c = Continuation(yielding)
        c.start(1)
        self.assertRaises(RuntimeError, yield_)

    def test_current(self):
        self.assertIsNone(get_current_continuation())
        def inner():
            yield_(get_current_continuation())
            return get_current_continuation()

        def outer():
            c = Continuation(inner)
            self.assertIs(c.start(), c)
            self.assertIs(get_current_continuation(), o)
            self.assertIs(c.send(None), c)
            return get_current_continuation()

        o = Continuation(outer)
        self.assertIs(o.start(), o)
        self.assertIsNone(get_current_continuation())

    def test_bad_arguments(self):
        for args in [(), (1,), (None,), (len, len)]:
            with self.subTest(args=args):
                self.assertRaises(TypeError, Continuation, *args)
        self.assertRaises(TypeError, Continuation, len, bad=1)
        c = Continuation(func=yielding)
        c.start(1)
        self.assertRaises(TypeError, c.send, 1, 2)
        self.assertRaises(TypeError, c.send, value=1)
        self.assertRaises(TypeError, c.throw)
        for exc in (1, None, int, 'x'):
            with self.subTest(exc=exc):
                with self.assertRaisesRegex(TypeError, "deriving from BaseException"):
                    c.throw(exc)
        self.assertRaises(TypeError, yield_, 1, 2)
        self.assertRaises(TypeError, c.close, 1)
        self.assertRaises(TypeError, get_current_continuation, 1)
        self.assertFalse(c.executing)
        self.assertEqual(c.send(None), 'end')

    def test_wrong_arguments_of_func(self):
        c = Continuation(lambda: None)
        self.assertRaises(TypeError, c.start, 1)
        self.assertTrue(c.completed)

    def test_no_subclass(self):
        with self.assertRaises(TypeError):
            class C(Continuation):
                pass

    def test_pickle_and_copy(self):
        c = Continuation(yielding)
        for _ in range(2):
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                with self.assertRaisesRegex(TypeError, "cannot pickle or copy"):
                    pickle.dumps(c, protocol)
            self.assertRaisesRegex(TypeError, "cannot pickle or copy", copy.copy, c)
            self.assertRaisesRegex(TypeError, "cannot pickle or copy", copy.deepcopy, c)
            if not c.started:
                c.start(1)

    def test_names(self):
        import continuations
        self.assertCountEqual(continuations.__all__,
                              ['Continuation', 'yield_', 'get_current_continuation'])
        self.assertEqual(Continuation.__module__, 'continuations')
        for obj in (Continuation, yield_, get_current_continuation, Continuation.start,
                    Continuation.send, Continuation.run, Continuation.throw,
                    Continuation.close):
            self.assertTrue(obj.__doc__)

    def test_many_suspended(self):
        cs = [Continuation(yielding) for _ in range(2000)]
        self.assertEqual([c.start(i) for i, c in enumerate(cs)], list(range(2000)))
        self.assertEqual({c.send(None) for c in cs}, {'end'})


class ThrowTests(unittest.TestCase):

    def test_throw(self):
        def func():
            try:
                yield_(1)
            except Error as exc:
                return exc

        for exc in (Error, Error('x')):
            c = Continuation(func)
            c.start()
            res = c.throw(exc)
            self.assertIsInstance(res, Error)
            if exc is not Error:
                self.assertIs(res, exc)

    def test_throw_not_caught(self):
        c = Continuation(yielding)
        c.start(1)
        error = Error()
        with self.assertRaises(Error) as cm:
            c.throw(error)
        self.assertIs(cm.exception, error)
        self.assertTrue(c.completed)

    def test_throw_and_yield(self):
        def func():
            try:
                yield_(1)
            except Error:
                yield_(2)
            return 3

        c = Continuation(func)
        c.start()
        self.assertEqual(c.throw(Error), 2)
        self.assertEqual(c.send(None), 3)

    def test_throw_before_start(self):
        called = []
        c = Continuation(lambda: called.append(1))
        self.assertRaises(Error, c.throw, Error)
        self.assertTrue(c.completed)
        self.assertFalse(c.started)
        self.assertEqual(called, [])
        self.assertRaises(RuntimeError, c.send, None)

    def test_throw_after_end(self):
        c = Continuation(yielding)
        c.start()
        self.assertRaises(Error, c.throw, Error)

    def test_stop_iteration_passes(self):
        def func():
            raise StopIteration(3)
        with self.assertRaises(StopIteration):
            Continuation(func).start()

    def test_close(self):
        log = []
        def func():
            try:
                yield_(1)
            finally:
                log.append(sys.exception())

        c = Continuation(func)
        c.start()
        self.assertIsNone(c.close())
        self.assertIsInstance(log[0], GeneratorExit)
        self.assertTrue(c.completed)
        self.assertIsNone(c.close())

    def test_close_before_start(self):
        c = Continuation(self.fail)
        self.assertIsNone(c.close())
        self.assertTrue(c.completed)
        self.assertRaises(RuntimeError, c.start)

    def test_close_returns(self):
        def func():
            try:
                yield_()
            except GeneratorExit:
                return 5
        c = Continuation(func)
        c.start()
        self.assertEqual(c.close(), 5)

    def test_close_raises(self):
        def func():
            try:
                yield_()
            finally:
                raise Error
        c = Continuation(func)
        c.start()
        self.assertRaises(Error, c.close)
        self.assertTrue(c.completed)

    def test_close_ignored(self):
        def func():
            try:
                yield_(1)
            except GeneratorExit:
                yield_(2)
            return 3

        c = Continuation(func)
        c.start()
        with self.assertRaisesRegex(RuntimeError, "continuation ignored GeneratorExit"):
            c.close()
        self.assertFalse(c.completed)
        self.assertEqual(c.send(None), 3)

    def test_traceback(self):
        def inner():
            raise Error

        def middle():
            yield_()
            inner()

        def outer():
            c.send(None)

        c = Continuation(middle)
        c.start()
        try:
            outer()
        except Error as exc:
            names = [f.name for f in traceback.extract_tb(exc.__traceback__)]
        self.assertEqual(names, ['test_traceback', 'outer', 'middle', 'inner'])

    def test_context_of_exceptions(self):
        def func():
            try:
                raise KeyError
            except KeyError:
                yield_()

        c = Continuation(func)
        c.start()
        with self.assertRaises(Error) as cm:
            c.throw(Error)
        self.assertIsInstance(cm.exception.__context__, KeyError)

        def raises():
            self.assertIsInstance(sys.exception(), IndexError)
            raise Error

        c = Continuation(raises)
        try:
            raise IndexError
        except IndexError:
            with self.assertRaises(Error) as cm:
                c.start()
        self.assertIsInstance(cm.exception.__context__, IndexError)

    def test_handled_exceptions_are_apart(self):
        def func():
            try:
                raise Error
            except Error:
                yield_(sys.exception())
                self.assertIsInstance(sys.exception(), Error)
            return sys.exception()

        c = Continuation(func)
        self.assertIsInstance(c.start(), Error)
        self.assertIsNone(sys.exception())
        try:
            raise KeyError
        except KeyError as exc:
            self.assertIs(c.send(None), exc)
            self.assertIs(sys.exception(), exc)


class NestingTests(unittest.TestCase):

    def test_nested(self):
        def inner(n):
            for i in range(n):
                yield_(i)

        def outer(n):
            c = Continuation(inner)
            value = c.start(n)
            while not c.completed:
                yield_(value * 10)
                value = c.send(None)

        c = Continuation(outer)
        values = [c.start(3)]
        while not c.completed:
            values.append(c.send(None))
        self.assertEqual(values, [0, 10, 20, None])

    def test_symmetric(self):
        def ping():
            log.append(('ping', b.start()))
            log.append(('ping', b.send('again')))
            return 'over'

        def pong():
            log.append(('pong', a.send('first')))
            log.append(('pong', a.send('second')))
            self.fail("resumed once too often")

        log = []
        a, b = Continuation(ping), Continuation(pong)
        self.assertEqual(a.start(), 'over')
        self.assertEqual(log, [('ping', 'first'), ('pong', 'again'), ('ping', 'second')])
        self.assertFalse(b.executing)
        self.assertFalse(b.completed)
        b.close()
        self.assertTrue(b.completed)

    def test_symmetric_resumed_from_elsewhere(self):
        def first():
            return b.start()

        def second():
            got = a.send('to a')
            return got

        a, b = Continuation(first), Continuation(second)
        self.assertEqual(a.start(), 'to a')
        self.assertEqual(b.send('from here'), 'from here')

    def test_symmetric_over_two(self):
        # The middle one is suspended together with the inner one.
        log = []
        def outer():
            log.append(middle_c.start())
            log.append((middle_c.executing, inner_c.executing))
            log.append(middle_c.send('deep'))
            return 'end'

        def middle():
            res = inner_c.start()
            log.append(('middle', res))
            return 'middle ends'

        def inner():
            log.append(('inner', outer_c.send('up two')))
            return 'inner ends'

        outer_c, middle_c, inner_c = map(Continuation, (outer, middle, inner))
        self.assertEqual(outer_c.start(), 'end')
        self.assertEqual(log, ['up two', (False, True), ('inner', 'deep'),
                               ('middle', 'inner ends'), 'middle ends'])

    def test_symmetric_over_two_throw(self):
        def outer():
            middle_c.start()
            with self.assertRaises(Error):
                middle_c.throw(Error)

        def middle():
            with self.assertRaises(Error):
                inner_c.start()
            raise Error

        def inner():
            outer_c.send(None)
            self.fail()

        outer_c, middle_c, inner_c = map(Continuation, (outer, middle, inner))
        outer_c.start()
        self.assertTrue(inner_c.completed)

    def test_symmetric_from_another_thread(self):
        def func():
            # It runs, but not on that thread.
            with self.assertRaises(ValueError):
                in_thread(c.send, None)
            with self.assertRaises(ValueError):
                in_thread(Continuation(lambda: c.send(None)).start)

        c = Continuation(func)
        c.start()

    def test_deep_nesting(self):
        def func(n):
            if n:
                return Continuation(func).start(n - 1) + 1
            return 0
        self.assertEqual(Continuation(func).start(50), 50)

    def test_endless_nesting(self):
        def func():
            Continuation(func).start()
        with support.infinite_recursion(100):
            self.assertRaises(RecursionError, func)

    def test_generator_inside(self):
        def gen():
            for i in range(3):
                yield yield_(i)

        def func():
            return list(gen())

        c = Continuation(func)
        self.assertEqual(c.start(), 0)
        self.assertEqual(c.send('a'), 1)
        self.assertEqual(c.send('b'), 2)
        self.assertEqual(c.send('c'), ['a', 'b', 'c'])

    def test_in_generator(self):
        def gen():
            c = Continuation(yielding)
            yield c.start(1, 2)
            while not c.completed:
                yield c.send(None)
        self.assertEqual(list(gen()), [1, 2, 'end'])


if __name__ == "__main__":
    unittest.main()

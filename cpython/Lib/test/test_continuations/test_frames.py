"""Yields from inside of C functions, what shows frames, and frames that may not move."""

import functools
import json
import re
import sys
import threading
import traceback
import unittest
import warnings

from continuations import Continuation, yield_
from test import support
from test.support import import_helper, warnings_helper
from test.support.script_helper import assert_python_ok
from test.test_continuations.util import Error, in_thread


class FrameTests(unittest.TestCase):
    """Yields from inside of C functions, and what shows frames."""

    def check(self, func, values, result):
        c = Continuation(func)
        out = [c.start()]
        while not c.completed:
            support.gc_collect()
            out.append(c.send(out[-1]))
        self.assertEqual(out.pop(), result)
        self.assertEqual(out, values)

    def test_map(self):
        self.check(lambda: list(map(yield_, range(3))), [0, 1, 2], [0, 1, 2])

    def test_func_is_a_c_function(self):
        c = Continuation(yield_)
        self.assertEqual(c.start(1), 1)
        self.assertEqual(c.send(2), 2)
        c = Continuation(map)
        self.assertEqual(list(c.start(str, [1])), ['1'])
        c = Continuation(functools.partial(functools.reduce, lambda a, b: yield_((a, b))))
        self.assertEqual(c.start([1, 2, 3]), (1, 2))
        self.assertEqual(c.send(10), (10, 3))
        self.assertEqual(c.send(20), 20)

    def test_sort(self):
        self.check(lambda: sorted([3, 1, 2], key=yield_), [3, 1, 2], [1, 2, 3])

    def test_eq_and_hash(self):
        class Key:
            def __init__(self, n):
                self.n = n
            def __hash__(self):
                return yield_(1)
            def __eq__(self, other):
                return yield_(self.n == other.n)

        def func():
            d = {Key(1): 'a'}
            return d[Key(1)]

        self.check(func, [1, 1, True], 'a')

    def test_json(self):
        def func():
            return json.dumps([object()], default=lambda obj: yield_('x'))
        self.check(func, ['x'], '["x"]')
        self.check(lambda: json.loads('{"a": 1}', object_hook=lambda d: yield_(d)),
                   [{'a': 1}], {'a': 1})

    def test_re_sub(self):
        self.check(lambda: re.sub('[ab]', lambda m: yield_(m.group()), 'xaxb'),
                   ['a', 'b'], 'xaxb')

    def test_import(self):
        name = '_continuations_imported'
        with import_helper.ready_to_import(
                name, "import continuations\nVALUE = continuations.yield_(1)\n"):
            def func():
                return __import__(name).VALUE
            self.check(func, [1], 1)

    def test_exec_and_class_body(self):
        def func():
            ns = {'yield_': yield_}
            exec("class C:\n    x = yield_(1)\n", ns)
            return ns['C'].x
        self.check(func, [1], 1)

    def test_with_and_finally(self):
        log = []
        class Manager:
            def __enter__(self):
                log.append(yield_('enter'))
            def __exit__(self, *args):
                log.append(yield_('exit'))

        def func():
            with Manager():
                yield_('body')
        self.check(func, ['enter', 'body', 'exit'], None)
        self.assertEqual(log, ['enter', 'exit'])

    def test_f_back(self):
        def func():
            names = []
            frame = sys._getframe()
            while frame is not None:
                names.append(frame.f_code.co_name)
                frame = frame.f_back
            return yield_(names)

        def caller():
            return c.start()

        c = Continuation(func)
        names = caller()
        self.assertEqual(names[:3], ['func', 'caller', 'test_f_back'])

        # The frames below are those of who resumes it now.
        def names_of_stack():
            while True:
                yield_([f.name for f in traceback.extract_stack()][-2:])

        def other_caller():
            return c.send(None)

        c = Continuation(names_of_stack)
        c.start()
        self.assertEqual(other_caller(), ['other_caller', 'names_of_stack'])
        c.close()

    def test_frame_of_suspended(self):
        def inner():
            yield_(sys._getframe())

        def func():
            inner()

        c = Continuation(func)
        frame = c.start()
        self.assertEqual(frame.f_back.f_code.co_name, 'func')
        self.assertIsNone(frame.f_back.f_back)
        self.assertRaises(RuntimeError, frame.clear)
        c.send(None)

    def test_current_frames(self):
        def inner():
            return sys._current_frames()[threading.get_ident()]

        def func():
            frame = inner()
            return [frame.f_code.co_name, frame.f_back.f_code.co_name,
                    frame.f_back.f_back.f_code.co_name]

        self.assertEqual(Continuation(func).start(),
                         ['inner', 'func', 'test_current_frames'])

    def test_current_exceptions(self):
        def func():
            return sys._current_exceptions()[threading.get_ident()]
        try:
            raise Error
        except Error as exc:
            self.assertIs(Continuation(func).start(), exc)

    def test_warning_names_the_caller(self):
        def func():
            warnings.warn("x", stacklevel=2)

        with warnings_helper.check_warnings(("x", UserWarning)) as w:
            Continuation(func).start()
            self.assertEqual(w.filename, __file__)

    def test_recursion(self):
        def recurse():
            recurse()

        def func():
            with self.assertRaises(RecursionError):
                recurse()
            yield_(1)
            with self.assertRaises(RecursionError):
                recurse()
            return 2

        c = Continuation(func)
        self.assertEqual(c.start(), 1)
        self.assertEqual(c.send(None), 2)

    def test_recursion_limit_is_changed(self):
        def depth(n=0):
            try:
                return depth(n + 1)
            except RecursionError:
                return n

        def func():
            while True:
                yield_(depth())

        c = Continuation(func)
        first = c.start()
        limit = sys.getrecursionlimit()
        self.addCleanup(sys.setrecursionlimit, limit)
        sys.setrecursionlimit(limit + 200)
        self.assertEqual(c.send(None), first + 200)
        sys.setrecursionlimit(limit)
        self.assertEqual(c.send(None), first)
        c.close()

        def changes():
            before = depth()
            sys.setrecursionlimit(limit + 200)
            return depth() - before

        self.assertEqual(Continuation(changes).start(), 200)
        sys.setrecursionlimit(limit)

    def test_c_recursion(self):
        def recurse(x=None):
            return sorted([1], key=recurse)

        def nested():
            value = []
            for _ in range(50_000):
                value = [value]
            return value

        def func():
            limit = sys.getrecursionlimit()
            sys.setrecursionlimit(1_000_000)
            try:
                with self.assertRaises(RecursionError):
                    recurse()
            finally:
                sys.setrecursionlimit(limit)
            value = nested()
            with self.assertRaises(RecursionError):
                repr(value)
            del value
            return 'ok'

        self.assertEqual(Continuation(func).start(), 'ok')

    def test_many_frames(self):
        def func(n):
            if n:
                return func(n - 1) + 1
            yield_('deep')
            return 0

        c = Continuation(func)
        self.assertEqual(c.start(400), 'deep')
        self.assertEqual(c.send(None), 400)


@unittest.skipUnless(support.check_impl_detail(cpython=True), "ctypes")
class ForeignTests(unittest.TestCase):
    """Frames that may not move to another OS thread."""

    def setUp(self):
        self.ctypes = import_helper.import_module('ctypes')

    def make(self):
        callback_type = self.ctypes.CFUNCTYPE(self.ctypes.c_int, self.ctypes.c_int)
        def func():
            return callback_type(yield_)(5)
        return Continuation(func)

    def test_same_thread(self):
        c = self.make()
        self.assertEqual(c.start(), 5)
        self.assertEqual(c.send(7), 7)

    def test_other_thread(self):
        c = self.make()
        self.assertEqual(c.start(), 5)
        for call, *args in [(c.send, 1), (c.throw, Error), (c.close,)]:
            with self.assertRaisesRegex(RuntimeError, "foreign code .*OS thread"):
                in_thread(call, *args)
        self.assertFalse(c.executing)
        self.assertEqual(c.send(7), 7)

    def test_free_again(self):
        # When the frames are gone, any thread will do.
        def func():
            yield_(self.ctypes.CFUNCTYPE(self.ctypes.c_int)(lambda: yield_(1))())
            return 'end'
        c = Continuation(func)
        c.start()
        self.assertEqual(c.send(3), 3)
        self.assertEqual(in_thread(c.send, None), 'end')

    def test_within_an_inner_one(self):
        # A foreign frame of one that is suspended within another one.
        def outer():
            middle_c.start()
            return 'not run to the end'

        def middle():
            inner_c.start()

        def inner():
            return self.ctypes.CFUNCTYPE(self.ctypes.c_int)(lambda: outer_c.send(1) or 0)()

        outer_c, middle_c, inner_c = map(Continuation, (outer, middle, inner))
        outer_c.start()
        self.assertRaises(RuntimeError, in_thread, middle_c.send, None)
        self.assertIsNone(middle_c.send(None))

    def test_dropped_elsewhere(self):
        rc, out, err = assert_python_ok("-c", """if True:
            import ctypes, gc, threading
            from continuations import Continuation, yield_
            c = Continuation(ctypes.CFUNCTYPE(ctypes.c_int)(lambda: yield_(1)))
            thread = threading.Thread(target=c.start)
            thread.start()
            thread.join()
            del c, thread
            gc.collect()
            print('end')
            """)
        self.assertEqual(out.strip(), b'end')
        self.assertIn(b'foreign code', err)


if __name__ == "__main__":
    unittest.main()

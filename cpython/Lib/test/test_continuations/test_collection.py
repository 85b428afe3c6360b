"""What happens to continuations that are dropped, or suspended at exit."""

import gc
import os
import sys
import unittest
import weakref

from continuations import Continuation, get_current_continuation, yield_
from test import support
from test.support.script_helper import assert_python_failure, assert_python_ok
from test.test_continuations.util import Error, in_thread, yielding


class CollectionTests(unittest.TestCase):

    def make(self, log):
        def func():
            try:
                with open(os.devnull) as file:
                    yield_(weakref.ref(file))
            finally:
                log.append(type(sys.exception()))
        c = Continuation(func)
        return c, c.start()

    def test_dropped(self):
        log = []
        c, ref = self.make(log)
        del c
        support.gc_collect()
        self.assertEqual(log, [GeneratorExit])
        self.assertIsNone(ref())

    def test_weakref(self):
        c = Continuation(yielding)
        c.start(1)
        ref = weakref.ref(c)
        self.assertIs(ref(), c)
        del c
        support.gc_collect()
        self.assertIsNone(ref())

    def test_dropped_in_another_thread(self):
        log = []
        box = [self.make(log)[0]]
        in_thread(box.clear)
        support.gc_collect()
        self.assertEqual(log, [GeneratorExit])

    def test_dropped_while_an_exception_is_raised(self):
        log = []
        def func():
            c = self.make(log)[0]
            raise Error
        with self.assertRaises(Error) as cm:
            func()
        del cm
        support.gc_collect()
        self.assertEqual(len(log), 1)

    def test_not_started(self):
        obj = Error()
        ref = weakref.ref(obj)
        c = Continuation(lambda obj=obj: None)
        del obj, c
        support.gc_collect()
        self.assertIsNone(ref())

    def test_result_is_not_kept(self):
        class C:
            pass
        def func(arg):
            yield_(C())
            return C()
        arg = C()
        c = Continuation(func)
        refs = [weakref.ref(arg), weakref.ref(c.start(arg))]
        del arg
        refs.append(weakref.ref(c.send(None)))
        support.gc_collect()
        self.assertEqual([ref() for ref in refs], [None] * 3)

    def test_cycle_through_func(self):
        log = []
        def make():
            def func():
                try:
                    yield_()
                finally:
                    log.append(c.executing)
            c = Continuation(func)
            c.start()
        make()
        support.gc_collect()
        self.assertEqual(log, [True])

    def test_cycle_through_a_frame(self):
        log = []
        def func():
            me = get_current_continuation()
            other = [me]
            try:
                list(map(yield_, [1, 2]))
            finally:
                log.append(me.executing)

        c = Continuation(func)
        c.start()
        ref = weakref.ref(c)
        del c
        support.gc_collect()
        self.assertEqual(log, [True])
        self.assertIsNone(ref())

    def test_cycle_of_two(self):
        log = []
        def func(box):
            try:
                yield_()
            finally:
                log.append(len(box))

        a, b = Continuation(func), Continuation(func)
        a.start([b])
        b.start([a])
        del a, b
        support.gc_collect()
        self.assertEqual(log, [1, 1])

    def test_reachable_is_kept(self):
        # The collector must not take what the frames of a suspended one reach.
        class C:
            pass
        def func():
            obj = C()
            obj.me = obj
            yield_(weakref.ref(obj))
            return obj

        c = Continuation(func)
        ref = c.start()
        for _ in range(3):
            gc.collect()
        self.assertIsNotNone(ref())
        obj = c.send(None)
        self.assertIs(obj, ref())
        obj.me = None

    def test_error_in_finally(self):
        def func():
            try:
                yield_()
            finally:
                raise Error
        c = Continuation(func)
        c.start()
        with support.catch_unraisable_exception() as cm:
            del c
            support.gc_collect()
            self.assertIs(cm.unraisable.exc_type, Error)

    def test_ignores_close(self):
        # It can't be unwound, and is kept.
        code = """if True:
            import gc
            from continuations import Continuation, yield_
            def func():
                while True:
                    try:
                        yield_()
                    except GeneratorExit:
                        print('refused')
            c = Continuation(func)
            c.start()
            del c
            gc.collect()
            print('end')
            """
        rc, out, err = assert_python_ok("-c", code)
        self.assertEqual(out.split(), [b'refused', b'end'])
        self.assertIn(b'continuation ignored GeneratorExit', err)

    def test_yield_in_del(self):
        errors = []
        class C:
            def __del__(self):
                try:
                    yield_()
                except RuntimeError as exc:
                    errors.append(str(exc))

        def func():
            obj = C()
            del obj
            yield_('next')

        c = Continuation(func)
        self.assertEqual(c.start(), 'next')
        support.gc_collect()
        self.assertEqual(len(errors), 1)
        self.assertIn('finalizer', errors[0])

    def test_resumed_in_del(self):
        log = []
        class C:
            def __del__(self):
                c = Continuation(yielding)
                log.append(c.start(1))
                log.append(c.send(None))
        C()
        support.gc_collect()
        self.assertEqual(log, [1, 'end'])

    def test_exit_with_suspended(self):
        code = """if True:
            import sys
            from continuations import Continuation, yield_
            def func(name):
                try:
                    yield_()
                finally:
                    print('finally', name, flush=True)
            cs = [Continuation(func) for _ in range(3)]
            for i, c in enumerate(cs):
                c.start(i)
            {}
            """
        for end, expected in [("", 3), ("cs.append(cs)", 3), ("import os; os._exit(0)", 0)]:
            with self.subTest(end=end):
                rc, out, err = assert_python_ok("-c", code.format(end))
                self.assertEqual(out.count(b'finally'), expected)
                self.assertEqual(err, b'')

    def test_exit_inside(self):
        rc, out, err = assert_python_failure("-c", """if True:
            import sys
            from continuations import Continuation
            Continuation(lambda: sys.exit(3)).start()
            """)
        self.assertEqual(rc, 3)
        self.assertEqual(err, b'')

    def test_exit_with_daemon(self):
        # A thread that is in a continuation when the process ends.
        rc, out, err = assert_python_ok("-c", """if True:
            import threading
            from continuations import Continuation
            entered = threading.Event()
            def func():
                entered.set()
                while True:
                    pass
            threading.Thread(target=Continuation(func).start, daemon=True).start()
            entered.wait()
            print('end')
            """)
        self.assertEqual(out.strip(), b'end')


if __name__ == "__main__":
    unittest.main()

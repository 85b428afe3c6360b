"""Whose thread, locals, context and event loop a continuation sees."""

import asyncio
import contextvars
import threading
import unittest

from continuations import Continuation, yield_
from test.test_continuations.util import in_thread


class IdentityTests(unittest.TestCase):

    def test_thread(self):
        def func():
            while True:
                yield_((threading.get_ident(), threading.current_thread(),
                        threading.get_native_id()))

        def me():
            return (threading.get_ident(), threading.current_thread(),
                    threading.get_native_id())

        c = Continuation(func)
        self.assertEqual(c.start(), me())
        def run():
            return c.send(None), me()
        got, expected = in_thread(run)
        self.assertEqual(got, expected)
        self.assertEqual(c.send(None), me())
        c.close()

    def test_local(self):
        local = threading.local()
        local.x = 1
        def func():
            self.assertEqual(local.x, 1)
            local.x = 2
            yield_()
            self.assertFalse(hasattr(local, 'x'))
            local.x = 3
            return 'end'

        c = Continuation(func)
        c.start()
        self.assertEqual(local.x, 2)
        self.assertEqual(in_thread(c.send, None), 'end')
        self.assertEqual(local.x, 2)

    def test_local_made_inside(self):
        def func():
            local = threading.local()
            local.x = 1
            yield_(local)
            return local.x

        c = Continuation(func)
        self.assertEqual(c.start().x, 1)
        self.assertEqual(c.send(None), 1)

    def test_context(self):
        var = contextvars.ContextVar('var', default=0)
        def func():
            values = [var.get()]
            var.set(2)
            yield_()
            values.append(var.get())
            return values

        token = var.set(1)
        try:
            c = Continuation(func)
            c.start()
            self.assertEqual(var.get(), 1)
            var.set(5)
            self.assertEqual(c.send(None), [1, 2])
            self.assertEqual(var.get(), 5)
        finally:
            var.reset(token)

    def test_yield_in_context_run(self):
        var = contextvars.ContextVar('var', default=0)
        def func(n):
            ctx = contextvars.copy_context()
            def inner():
                var.set(n)
                yield_()
                return var.get()
            return ctx.run(inner), var.get()

        cs = [Continuation(func) for _ in range(3)]
        for i, c in enumerate(cs):
            c.start(i + 1)
        self.assertEqual([c.send(None) for c in cs], [(1, 0), (2, 0), (3, 0)])

    def test_asyncio(self):
        def func():
            first = asyncio.get_running_loop()
            yield_(first)
            with self.assertRaises(RuntimeError):
                asyncio.get_running_loop()
            return asyncio.run(main())

        async def main():
            await asyncio.sleep(0)
            return asyncio.get_running_loop()

        async def start():
            loop = asyncio.get_running_loop()
            self.assertIs(c.start(), loop)
            self.assertIs(asyncio.get_running_loop(), loop)

        c = Continuation(func)
        asyncio.run(start())
        self.assertTrue(c.send(None).is_closed())
        asyncio.set_event_loop_policy(None)


if __name__ == "__main__":
    unittest.main()

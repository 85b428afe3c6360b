"""run_coroutine() and as_awaitable(): asyncio both ways."""

import asyncio
import concurrent.futures
import contextvars
import threading
import time
import unittest

from test import support
from test.support import script_helper
from test.test_virtual_threading.interrupt_util import Stop
from test.test_virtual_threading.util import COUNT, LONG, SHORT, TIMEOUT, TestCase
from virtual_threading import (Interrupted, TaskScope, Thread, as_awaitable, run_coroutine, spawn,
                               timeout)
from virtual_threading.bridge import _shared_loop


def tearDownModule():
    _shared_loop.end()
    asyncio.set_event_loop_policy(None)


class BridgeTestCase(TestCase):

    @classmethod
    def setUpClass(cls):
        # The loop's thread must be there before the tests count threads.
        spawn(run_coroutine, asyncio.sleep(0)).join()


class RunCoroutineTests(BridgeTestCase):

    def test_result(self):
        async def double(x):
            await asyncio.sleep(0.001)
            return 2 * x

        self.assertEqual(self.call(run_coroutine, double(21)), 42)
        # In a platform thread, too.
        self.assertEqual(run_coroutine(double(21)), 42)

    def test_exception(self):
        async def crash():
            1/0

        with self.assertRaises(ZeroDivisionError):
            self.call(run_coroutine, crash())

    def test_many_meet(self):
        # All coroutines run on one loop.
        async def meet():
            loops.add(asyncio.get_running_loop())
            if len(tasks) < COUNT:
                tasks.append(asyncio.current_task())
            while len(tasks) < COUNT:
                await asyncio.sleep(0.001)

        loops = set()
        tasks = []
        self.call_all([lambda: run_coroutine(meet())] * COUNT)
        self.assertEqual(len(loops), 1)

    def test_context(self):
        var = contextvars.ContextVar("var", default=0)

        async def get():
            return var.get()

        def run():
            var.set(1)
            return run_coroutine(get())

        self.assertEqual(self.call(run), 1)

    def test_interrupt(self):
        # Of any class; test_interrupt_main has Ctrl-C.
        async def wait():
            started.set()
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                await asyncio.sleep(0.001)
                seen.append("cancelled")
                raise

        def run():
            try:
                run_coroutine(wait())
            except (Interrupted, Stop, KeyboardInterrupt) as exc:
                seen.append(type(exc))

        for exc in Interrupted, Stop, KeyboardInterrupt:
            seen = []
            started = threading.Event()
            thread = spawn(run)
            self.wait_for(started)
            thread.interrupt(exc)
            self.join([thread])
            self.assertEqual(seen, ["cancelled", exc])

    def test_interrupt_suppressed(self):
        started = threading.Event()

        async def wait():
            started.set()
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                return "went on"

        results = []
        thread = spawn(lambda: results.append(run_coroutine(wait())))
        self.wait_for(started)
        thread.interrupt()
        self.join([thread])
        self.assertEqual(results, ["went on"])

    def test_interrupt_at_the_end(self):
        # When nobody can be cancelled any more it is not lost.
        started, end, again = threading.Event(), self.make_event(), self.make_event()

        async def block():
            started.set()
            end.wait(TIMEOUT)

        def run():
            with self.assertRaises(Interrupted):
                run_coroutine(block())
                again.wait(TIMEOUT)

        thread = spawn(run)
        self.wait_for(started)
        thread.interrupt()
        self.wait_until(lambda: thread.state == "parked", "a thread that waits again")
        end.set()
        self.join([thread])

    def test_interrupt_before_start(self):
        def run():
            threading.current_thread().interrupt()
            with self.assertRaises(Interrupted):
                run_coroutine(asyncio.sleep(LONG))

        self.call(run)

    def test_timeout(self):
        def run():
            with self.assertRaises(TimeoutError):
                with timeout(SHORT):
                    run_coroutine(asyncio.sleep(LONG))

        self.call(run)

    def test_exit(self):
        # It is the caller's, and does not end the loop.
        async def leave(exc):
            raise exc

        for exc in SystemExit, KeyboardInterrupt:
            with self.assertRaises(exc):
                self.call(run_coroutine, leave(exc))
        self.assertEqual(self.call(run_coroutine, asyncio.sleep(0, 42)), 42)

    def test_own_cancellation(self):
        async def cancel():
            raise asyncio.CancelledError

        with self.assertRaises(asyncio.CancelledError):
            self.call(run_coroutine, cancel())

    def test_errors(self):
        for value in None, 1, asyncio.sleep:
            with self.assertRaisesRegex(TypeError, "a coroutine was expected"):
                self.call(run_coroutine, value)

        async def main():
            with self.assertRaisesRegex(RuntimeError, "running event loop"):
                run_coroutine(asyncio.sleep(0))
            with self.assertRaisesRegex(TypeError, "a coroutine was expected"):
                run_coroutine(42)

        asyncio.run(main())

    @support.requires_fork()
    def test_fork(self):
        script_helper.assert_python_ok("-W", "ignore", "-c", """if True:
            import asyncio, os, virtual_threading
            async def f(x): return x
            def run():
                assert virtual_threading.run_coroutine(f(1)) == 1
                pid = os.fork()
                assert virtual_threading.run_coroutine(f(2)) == 2
                if pid == 0:
                    os._exit(7)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
            virtual_threading.spawn(run).join()
            """)


class AsAwaitableTests(BridgeTestCase):

    def run_main(self, main):
        """On a platform thread, and on a virtual one."""
        with self.subTest("platform"):
            asyncio.run(main())
        with self.subTest("virtual"):
            self.call(lambda: asyncio.run(main()))

    def test_thread(self):
        async def main():
            ran = []
            thread = spawn(ran.append, 1)
            self.assertIsNone(await as_awaitable(thread))
            self.assertEqual(ran, [1])
            self.assertFalse(thread.is_alive())
            self.assertIsNone(await as_awaitable(thread))

        self.run_main(main)

    def test_platform_thread(self):
        async def main():
            thread = threading.Thread(target=int)
            thread.start()
            self.assertIsNone(await as_awaitable(thread))

        self.run_main(main)

    def test_future(self):
        async def main():
            with concurrent.futures.VirtualThreadPoolExecutor() as executor:
                self.assertEqual(await as_awaitable(executor.submit(int, "42")), 42)
                with self.assertRaises(ValueError):
                    await as_awaitable(executor.submit(int, "x"))

        self.run_main(main)

    def test_task(self):
        async def main():
            with TaskScope() as scope:
                self.assertEqual(await as_awaitable(scope.spawn(int, "42")), 42)

        self.run_main(main)

    def test_cancel_thread(self):
        async def main():
            seen = []

            def run():
                try:
                    time.sleep(LONG)
                except Interrupted:
                    seen.append("interrupted")

            thread = spawn(run)
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(SHORT):
                    await as_awaitable(thread)
            await as_awaitable(thread)
            self.assertEqual(seen, ["interrupted"])

        self.run_main(main)

    def test_cancel_task(self):
        async def main():
            with TaskScope() as scope:
                task = scope.spawn(time.sleep, LONG)
                awaitable = as_awaitable(task)
                awaitable.cancel()
                await asyncio.sleep(0)      # it is passed on by the loop, which the scope blocks
                with self.assertRaises(asyncio.CancelledError):
                    await awaitable
            self.assertTrue(task.cancelled())

        self.run_main(main)

    def test_errors(self):
        async def main():
            for value in None, 1, int:
                with self.assertRaisesRegex(TypeError, "was expected"):
                    as_awaitable(value)
            for cls in threading.Thread, Thread:
                with self.assertRaisesRegex(RuntimeError, "before it is started"):
                    as_awaitable(cls())

        self.run_main(main)


if __name__ == "__main__":
    unittest.main()

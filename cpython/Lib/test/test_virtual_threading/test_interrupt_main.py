"""Ctrl-C while very many threads are parked, in each place where the main thread can wait."""

import asyncio
import concurrent.futures
import importlib
import multiprocessing
import os
import queue
import select
import selectors
import signal
import subprocess
import sys
import threading
import time
import unittest

from test.support import import_helper, script_helper, swap_attr, warnings_helper
from test.test_virtual_threading.interrupt_util import InterruptCase, import_on, importing
from test.test_virtual_threading.socket_util import BIG, SocketTestCase
from test.test_virtual_threading.test_many import MANY
from test.test_virtual_threading.util import LONG
from virtual_threading import TaskScope, run_coroutine, spawn, stats
from virtual_threading.bridge import _shared_loop


def tearDownModule():
    asyncio.set_event_loop_policy(None)


def is_asleep(native_id):
    """Does this thread of the process wait in the kernel?"""
    with open(f"/proc/self/task/{native_id}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"


class InterruptMainTests(InterruptCase, SocketTestCase):

    @classmethod
    def setUpClass(cls):
        cls.event = threading.Event()
        cls.threads = [spawn(cls.event.wait) for _ in range(MANY)]
        # The loop's thread must be there before the tests count threads.
        run_coroutine(asyncio.sleep(0))

    @classmethod
    def tearDownClass(cls):
        cls.event.set()
        for thread in cls.threads:
            thread.join()
        cls.threads.clear()
        _shared_loop.end()

    def setUp(self):
        if threading.current_thread() is not threading.main_thread():
            self.skipTest("signals are handled by the main thread")
        self.wait_until(lambda: stats()['threads'].get('parked', 0) >= MANY,
                        f"{MANY} parked threads")
        super().setUp()
        # A shell may have started us with the signal ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)

    def check(self, wait, ready=lambda: True):
        main = threading.get_native_id()
        done = threading.Event()

        def interrupt():
            # It sleeps for a moment in locks, too. A signal that comes between such a sleep and the
            # call is seen when the call ends, so one more is needed.
            pause = 0.01
            while not done.wait(pause):
                pause = 0.01
                if ready() and is_asleep(main):
                    os.kill(os.getpid(), signal.SIGINT)
                    pause = 5

        thread = spawn(interrupt)
        try:
            with self.assertRaises(KeyboardInterrupt):
                wait()
        finally:
            done.set()
            self.join([thread])
        self.assertEqual(self.call(int, "42"), 42)

    def test_locks(self):
        lock, condition = threading.Lock(), threading.Condition()
        lock.acquire()
        for wait in (lock.acquire, lambda: lock.acquire(timeout=LONG), self.event.wait,
                     threading.Semaphore(0).acquire, threading.Barrier(2).wait):
            with self.subTest(wait=wait):
                self.check(wait)
        with condition:
            self.check(condition.wait)

    def test_queues(self):
        full = queue.Queue(1)
        full.put(1)
        for wait in (queue.SimpleQueue().get, queue.Queue().get,
                     lambda: queue.Queue().get(timeout=LONG), lambda: full.put(2)):
            with self.subTest(wait=wait):
                self.check(wait)

    def test_threads(self):
        for wait in (self.threads[0].join, lambda: self.threads[0].join(LONG)):
            with self.subTest(wait=wait):
                self.check(wait)

    def test_executor(self):
        for cls in (concurrent.futures.VirtualThreadPoolExecutor,
                    concurrent.futures.ThreadPoolExecutor):
            release = threading.Event()
            with self.subTest(cls=cls), cls(2) as executor, self.setting(release):
                future = executor.submit(release.wait)
                self.check(future.result)
                self.check(lambda: concurrent.futures.wait([future]))
                self.check(lambda: next(concurrent.futures.as_completed([future])))
                self.check(executor.shutdown)

    def test_scope(self):
        tasks = []

        def scope():
            with TaskScope() as scope:
                tasks.append(scope.spawn(time.sleep, LONG))

        self.check(scope, lambda: tasks and not tasks[0]._scope._in_body)
        self.assertTrue(tasks[0].cancelled())

    def test_asyncio(self):
        async def wait():
            seen.append("started")
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        for run in asyncio.run, run_coroutine:
            seen = []
            with self.subTest(run=run):
                self.check(lambda: run(wait()), lambda: seen)
                self.assertEqual(seen, ["started", "cancelled"])

    def test_import(self):
        name = self.make_blocking_module()
        with self.setting(import_on):
            thread = spawn(importlib.import_module, name)
            self.wait_for(importing)
            self.check(lambda: importlib.import_module(name))
        self.join([thread])
        self.assertEqual(importlib.import_module(name).x, 42)

    def test_sleep(self):
        self.check(lambda: time.sleep(LONG))
        self.check(signal.pause)

    def test_descriptors(self):
        left, right = self.pair()
        poll, epoll = select.poll(), select.epoll()
        selector = selectors.DefaultSelector()
        for waiter in poll, epoll:
            waiter.register(left, select.POLLIN)
        selector.register(left, selectors.EVENT_READ)
        with epoll, selector:
            for wait in (lambda: left.recv(1), self.listener().accept,
                         lambda: self.open().connect(self.full_listener().getsockname()),
                         lambda: left.sendall(bytes(BIG)),
                         lambda: os.read(left.fileno(), 1), poll.poll, epoll.poll,
                         selector.select, lambda: select.select([left], [], []),
                         lambda: left.makefile("rb").read(1)):
                with self.subTest(wait=wait):
                    self.check(wait)

    def test_pipes(self):
        read, write = os.pipe()
        with (open(read) as reader, open(write, "wb", buffering=0) as writer,
              swap_attr(sys, "stdin", reader)):
            self.check(input)
            self.check(lambda: [writer.write(bytes(BIG)) for _ in range(2)])

    def test_tls(self):
        ssl = import_helper.import_module("ssl")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.check(lambda: context.wrap_socket(self.pair()[0]))

    def test_processes(self):
        read, write = os.pipe()
        with (open(read) as source,
              subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"],
                               stdin=source, stdout=subprocess.PIPE,
                               start_new_session=True) as process,
              open(write, "w")):
            for wait in (process.wait, lambda: process.wait(LONG),
                         lambda: os.waitpid(process.pid, 0),
                         process.communicate, lambda: process.communicate(timeout=LONG)):
                with self.subTest(wait=wait):
                    self.check(wait)

    @warnings_helper.ignore_warnings(category=DeprecationWarning)
    def test_multiprocessing(self):
        context = multiprocessing.get_context("fork")
        try:
            items = context.Queue()
        except (ImportError, OSError) as exc:
            self.skipTest(str(exc))
        self.check(items.get)
        process = context.Process(target=signal.pause)
        process.start()
        try:
            self.check(process.join)
            self.check(lambda: process.join(LONG))
        finally:
            process.kill()
            process.join()
            process.close()
            items.close()


class ExitTests(unittest.TestCase):

    def test_join_at_exit(self):
        # What is waited for then goes with the process.
        _, _, err = script_helper.assert_python_ok("-c", """if True:
            import os, signal, threading, time
            from virtual_threading import spawn
            def run():
                while not threading._SHUTTING_DOWN or not is_asleep():
                    time.sleep(0.001)
                os.kill(os.getpid(), signal.SIGINT)
                threading.Event().wait()
            def is_asleep():
                with open(f"/proc/self/task/{os.getpid()}/stat") as file:
                    return ") S" in file.read()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            spawn(run)
            """)
        self.assertIn(b"in _shutdown", err)
        self.assertTrue(err.rstrip().endswith(b"KeyboardInterrupt:"), err)


if __name__ == '__main__':
    unittest.main()

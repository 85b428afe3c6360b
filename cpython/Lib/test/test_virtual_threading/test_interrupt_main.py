"""Ctrl-C while very many threads are parked, in each place where the main thread can wait."""

import concurrent.futures
import os
import queue
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import virtual_threading
from test.test_virtual_threading.test_many import MANY
from test.test_virtual_threading.util import LONG, TestCase
from virtual_threading import spawn, stats


def is_asleep(native_id):
    """Does this thread of the process wait in the kernel?"""
    with open(f"/proc/self/task/{native_id}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"


class InterruptMainTests(TestCase):

    @classmethod
    def setUpClass(cls):
        cls.event = threading.Event()
        cls.threads = [spawn(cls.event.wait) for _ in range(MANY)]

    @classmethod
    def tearDownClass(cls):
        cls.event.set()
        for thread in cls.threads:
            thread.join()
        cls.threads.clear()

    def setUp(self):
        if threading.current_thread() is not threading.main_thread():
            self.skipTest("signals are handled by the main thread")
        self.wait_until(lambda: stats()['threads'].get('parked', 0) >= MANY,
                        f"{MANY} parked threads")
        super().setUp()
        # A shell may have started us with the signal ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)

    def check(self, wait):
        main = threading.get_native_id()
        done = threading.Event()

        def interrupt():
            # It sleeps for a moment in locks, too: until it has been told.
            while not done.wait(0.01):
                if is_asleep(main):
                    os.kill(os.getpid(), signal.SIGINT)
                    return

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
        release = threading.Event()
        with self.setting(release):
            def scope():
                with virtual_threading.TaskScope() as scope:
                    scope.spawn(release.wait)
            self.check(scope)

    def test_sleep(self):
        self.check(lambda: time.sleep(LONG))
        self.check(signal.pause)

    def test_descriptors(self):
        left, right = socket.socketpair()
        with left, right, socket.create_server(("127.0.0.1", 0)) as listener:
            poll, epoll = select.poll(), select.epoll()
            selector = selectors.DefaultSelector()
            for waiter in poll, epoll:
                waiter.register(left, select.POLLIN)
            selector.register(left, selectors.EVENT_READ)
            with epoll, selector:
                for wait in (lambda: left.recv(1), listener.accept,
                             lambda: os.read(left.fileno(), 1), poll.poll, epoll.poll,
                             selector.select, lambda: select.select([left], [], []),
                             lambda: left.makefile("rb").read(1)):
                    with self.subTest(wait=wait):
                        self.check(wait)

    def test_processes(self):
        with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE,
                              start_new_session=True) as process:
            self.check(process.wait)
            self.check(lambda: process.wait(LONG))
            self.check(lambda: os.waitpid(process.pid, 0))
            process.stdin.close()


if __name__ == '__main__':
    unittest.main()

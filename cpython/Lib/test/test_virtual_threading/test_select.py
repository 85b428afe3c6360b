"""select, poll, epoll and selectors park."""

import contextlib
import os
import select
import selectors
import socket
import threading
import unittest

from test.test_virtual_threading.util import COUNT, TIMEOUT, TestCase
from virtual_threading import spawn


class SelectTests(TestCase):

    def setUp(self):
        super().setUp()
        self.pairs = []
        for _ in range(COUNT):
            pair = socket.socketpair()
            for sock in pair:
                self.addCleanup(sock.close)
            self.pairs.append(pair)
        self._next = iter(self.pairs)
        self._lock = threading.Lock()

    def take(self):
        with self._lock:
            return next(self._next)[0]

    def release(self):
        for pair in self.pairs:
            pair[1].send(b"x")

    def check(self, block):
        self.assertEqual(set(self.check_parks(block, self.release)), {1})

    def test_select(self):
        self.check(lambda: len(select.select([self.take()], [], [])[0]))

    def test_select_timeout(self):
        self.check(lambda: len(select.select([self.take()], [], [], TIMEOUT)[0]))

    def test_poll(self):
        def block():
            poll = select.poll()
            poll.register(self.take(), select.POLLIN)
            return len(poll.poll())

        self.check(block)

    def test_poll_timeout(self):
        def block():
            poll = select.poll()
            poll.register(self.take(), select.POLLIN)
            return len(poll.poll(TIMEOUT * 1000))

        self.check(block)

    def test_epoll(self):
        def block():
            with select.epoll() as epoll:
                epoll.register(self.take(), select.EPOLLIN)
                return len(epoll.poll())

        self.check(block)

    def test_epoll_timeout(self):
        def block():
            with select.epoll() as epoll:
                epoll.register(self.take(), select.EPOLLIN)
                return len(epoll.poll(TIMEOUT))

        self.check(block)

    def test_selectors(self):
        for cls in (selectors.SelectSelector, selectors.PollSelector,
                    selectors.EpollSelector):
            with self.subTest(cls.__name__):
                def block():
                    with cls() as selector:
                        sock = self.take()
                        selector.register(sock, selectors.EVENT_READ)
                        found = len(selector.select())
                        sock.recv(1)
                        return found

                self._next = iter(self.pairs)
                self.check(block)

    def waits(self, sock, seconds):
        """Each way to wait for sock to be readable; how many are ready."""
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        yield len(select.select([sock], [], [], seconds)[0])
        yield len(poll.poll(seconds * 1000))
        with select.epoll() as epoll:
            epoll.register(sock, select.EPOLLIN)
            yield len(epoll.poll(seconds))

    def test_expired(self):
        for seconds in (0.01, 0):
            results = self.call_all([lambda: list(self.waits(self.take(), seconds))]
                                    * (COUNT // 2))
            self.assertEqual(results, [[0, 0, 0]] * (COUNT // 2))

    def test_ready_at_once(self):
        self.release()
        results = self.call_all([lambda: list(self.waits(self.take(), TIMEOUT))]
                                * COUNT)
        self.assertEqual(results, [[1, 1, 1]] * COUNT)

    def test_many_descriptors(self):
        # Each waits for all, and the one that is ready is found.
        socks = [pair[0] for pair in self.pairs]
        results = self.check_parks(lambda: select.select(socks, [], [])[0],
                                   lambda: self.pairs[7][1].send(b"x"))
        self.assertEqual(results, [[socks[7]]] * COUNT)

    def test_writable_and_readable(self):
        left, right = self.pairs[0]
        left.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                left.send(b"x" * 65536)

        def block():
            return select.select([left], [left], [])

        def drain():
            right.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    right.recv(65536)

        results = self.check_parks(block, drain)
        self.assertEqual(results, [([], [left], [])] * COUNT)

    def test_select_errors(self):
        left, right = socket.socketpair()
        right.close()
        descriptor = left.fileno()
        left.close()
        with self.assertRaises(OSError):
            self.call(select.select, [descriptor], [], [], 1)
        self.assertRaises(ValueError, self.call, select.select, [], [], [], -1)
        self.assertRaises(TypeError, self.call, select.select, [], [], [], "1")

    def test_select_as_sleep(self):
        self.call_all([lambda: select.select([], [], [], 0.05)] * COUNT)

    def test_regular_file_is_ready(self):
        with open(__file__) as file:
            self.assertEqual(self.call(select.select, [file], [], []), ([file], [], []))

    def test_epoll_shared_by_threads(self):
        with select.epoll() as epoll:
            for pair in self.pairs:
                epoll.register(pair[0], select.EPOLLIN | select.EPOLLONESHOT)
            found = self.check_parks(lambda: epoll.poll(maxevents=1)[0][0],
                                     self.release)
        self.assertEqual(sorted(found), sorted(pair[0].fileno() for pair in self.pairs))

    def test_woken_by_a_virtual_thread(self):
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)
        thread = spawn(select.select, [read], [], [])
        self.join([spawn(os.write, write, b"x"), thread])


if __name__ == "__main__":
    unittest.main()

"""select, poll, epoll and selectors park."""

import errno
import os
import select
import selectors
import socket
import time
import unittest

from test.test_virtual_threading.io_util import Hands
from test.test_virtual_threading.util import COUNT, TIMEOUT, TestCase


def select_read(socks, timeout=None):
    return select.select(socks, [], [], timeout)[0]


def poll_read(socks, timeout=None):
    poll = select.poll()
    by_fd = {sock.fileno(): sock for sock in socks}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    return [by_fd[fd] for fd, _ in poll.poll(None if timeout is None else timeout * 1000)]


def epoll_read(socks, timeout=None):
    by_fd = {sock.fileno(): sock for sock in socks}
    with select.epoll() as epoll:
        for fd in by_fd:
            epoll.register(fd, select.EPOLLIN)
        return [by_fd[fd] for fd, _ in epoll.poll(timeout)]


def selector_read(selector):
    def read(socks, timeout=None):
        with selector() as waiting:
            for sock in socks:
                waiting.register(sock, selectors.EVENT_READ)
            return [key.fileobj for key, _ in waiting.select(timeout)]
    return read


READERS = {
    "select": select_read,
    "poll": poll_read,
    "epoll": epoll_read,
    "SelectSelector": selector_read(selectors.SelectSelector),
    "PollSelector": selector_read(selectors.PollSelector),
    "EpollSelector": selector_read(selectors.EpollSelector),
}


class SelectTests(TestCase):

    def pairs(self, count):
        pairs = [socket.socketpair() for _ in range(count)]
        for left, right in pairs:
            self.addCleanup(left.close)
            self.addCleanup(right.close)
        return pairs

    def for_each(self):
        for name, read in READERS.items():
            with self.subTest(name):
                yield read

    def test_parks(self):
        # Each waits for all, and the one that is ready is found.
        pairs = self.pairs(COUNT)
        socks = [left for left, _ in pairs]
        for read in self.for_each():
            self.assertEqual(
                self.check_parks(lambda: read(socks), lambda: pairs[7][1].send(b"x")),
                [[socks[7]]] * COUNT)
            socks[7].recv(1)

    def test_each_its_own(self):
        pairs = self.pairs(COUNT)

        def release():
            for _, right in pairs:
                right.send(b"x")

        for read in self.for_each():
            for seconds in None, TIMEOUT:
                hands = Hands(left for left, _ in pairs)

                def wait():
                    sock = hands()
                    found = read([sock], seconds)
                    return found == [sock] and sock.recv(10)

                self.assertEqual(self.check_parks(wait, release), [b"x"] * COUNT)

    def test_one_way_after_the_other(self):
        pairs = self.pairs(COUNT)

        def wait(sock, seconds):
            return [len(read([sock], seconds)) for read in READERS.values()]

        for seconds in 0.01, 0:
            found = self.call_all([lambda s=left: wait(s, seconds) for left, _ in pairs])
            self.assertEqual(found, [[0] * len(READERS)] * COUNT)
        for _, right in pairs:
            right.send(b"x")
        found = self.call_all([lambda s=left: wait(s, TIMEOUT) for left, _ in pairs])
        self.assertEqual(found, [[1] * len(READERS)] * COUNT)

    def test_woken_by_a_virtual_thread(self):
        for read in self.for_each():
            source, sink = os.pipe()
            with open(source, "rb", buffering=0) as file, open(sink, "wb", buffering=0):
                self.assertEqual(
                    self.check_parks(lambda: read([file]),
                                     lambda: self.call(os.write, sink, b"x")),
                    [[file]] * COUNT)

    def test_several_ready(self):
        for read in self.for_each():
            pairs = self.pairs(10)
            for _, right in pairs[::2]:
                right.send(b"x")
            socks = [left for left, _ in pairs]
            self.assertEqual(set(self.call(read, socks)), set(socks[::2]))

    def test_timeout(self):
        def measure(read, socks, seconds):
            start = time.monotonic()
            self.assertEqual(read(socks, seconds), [])
            return time.monotonic() - start

        for read in self.for_each():
            socks = [left for left, _ in self.pairs(3)]
            self.assertGreaterEqual(self.call(measure, read, socks, 0.05), 0.05)
            self.call_all([lambda: measure(read, socks, 0)] * COUNT)
            took = self.call_all([lambda: measure(read, socks, 0.01)] * COUNT)
            self.assertGreaterEqual(min(took), 0.01)

    def test_end_of_stream(self):
        for read in self.for_each():
            [(left, right)] = self.pairs(1)
            self.assertEqual(self.check_parks(lambda: read([left]), right.close, count=3),
                             [[left]] * 3)

    def test_woken_by_timeout_then_used_again(self):
        for read in self.for_each():
            [(left, right)] = self.pairs(1)

            def wait():
                empty = sum(read([left], 0.001) == [] for _ in range(10))
                right.send(b"x")
                return empty, read([left], 3600)

            self.assertEqual(self.call(wait), (10, [left]))

    def test_writable(self):
        [(left, right)] = self.pairs(1)

        def wait():
            readable, writable, _ = select.select([left], [left], [left])
            poll = select.poll()
            poll.register(left, select.POLLIN | select.POLLOUT)
            with select.epoll() as epoll:
                epoll.register(left, select.EPOLLIN | select.EPOLLOUT)
                return (readable, writable, poll.poll(), epoll.poll())

        fd = left.fileno()
        self.assertEqual(self.call(wait), ([], [left], [(fd, select.POLLOUT)],
                                           [(fd, select.EPOLLOUT)]))

    def test_waits_until_writable(self):
        [(left, right)] = self.pairs(1)
        left.setblocking(False)
        right.setblocking(False)

        def release():
            with self.assertRaises(BlockingIOError):
                while True:
                    right.recv(65536)

        for readers in [], [left]:
            with self.assertRaises(BlockingIOError):
                while True:
                    left.send(b"x" * 65536)
            self.assertEqual(
                self.check_parks(lambda: select.select(readers, [left], []), release),
                [([], [left], [])] * COUNT)

    def test_exceptional_only(self):
        # A hang-up is none of select's exceptional conditions; poll reports it always.
        [(left, right)] = self.pairs(1)
        right.close()
        start = time.monotonic()
        self.assertEqual(self.call(select.select, [], [], [left], 0.05), ([], [], []))
        self.assertGreaterEqual(time.monotonic() - start, 0.05)

    def test_nothing(self):
        start = time.monotonic()
        nothing = self.call_all([lambda: select.select([], [], [], 0.02)] * COUNT)
        self.assertEqual(nothing, [([], [], [])] * COUNT)
        self.assertEqual(self.call(select.poll().poll, 20), [])
        self.assertGreaterEqual(time.monotonic() - start, 0.04)

    def test_regular_file(self):
        with open(__file__) as file:
            self.assertEqual(self.call(select_read, [file]), [file])
            self.assertEqual(self.call(poll_read, [file]), [file])

    def test_bad_descriptor(self):
        def closed():
            # By who uses it next: the first virtual thread brings descriptors of its own.
            fd = os.dup(left.fileno())
            os.close(fd)
            return fd

        def wait(seconds):
            with self.assertRaises(OSError) as caught:
                select.select([closed()], [], [], seconds)
            return caught.exception.errno

        def poll():
            poll = select.poll()
            fd = closed()
            poll.register(fd, select.POLLIN)
            self.assertEqual(poll.poll(), [(fd, select.POLLNVAL)])

        [(left, right)] = self.pairs(1)
        for seconds in None, 1:
            self.assertEqual(self.call(wait, seconds), errno.EBADF)
        self.call(poll)

    def test_bad_arguments(self):
        self.assertRaises(ValueError, self.call, select.select, [], [], [], -1)
        self.assertRaises(TypeError, self.call, select.select, [], [], [], "1")
        self.assertRaises(TypeError, self.call, select.poll().poll, "1")
        with select.epoll() as epoll:
            self.assertRaises(ValueError, self.call, epoll.poll, 1, 0)

    def test_concurrent_poll(self):
        [(left, right)] = self.pairs(1)
        poll = select.poll()
        poll.register(left, select.POLLIN)

        def release():
            self.assertRaises(RuntimeError, poll.poll)
            right.send(b"x")

        self.check_parks(poll.poll, release, count=1)

    def test_epoll_changes_while_waiting(self):
        [(left, right)] = self.pairs(1)
        with select.epoll() as epoll:
            def release():
                epoll.register(left, select.EPOLLIN)
                right.send(b"x")
            self.assertEqual(self.check_parks(epoll.poll, release, count=3),
                             [[(left.fileno(), select.EPOLLIN)]] * 3)

    def test_epoll_shared_by_threads(self):
        # What is taken from it once is for no other thread.
        pairs = self.pairs(COUNT)
        with select.epoll() as epoll:
            for left, _ in pairs:
                epoll.register(left, select.EPOLLIN | select.EPOLLONESHOT)
            found = self.check_parks(lambda: epoll.poll(maxevents=1)[0][0],
                                     lambda: [right.send(b"x") for _, right in pairs])
        self.assertEqual(sorted(found), sorted(left.fileno() for left, _ in pairs))

    def test_epoll_edge_triggered(self):
        # Of all that wait on one epoll descriptor, one gets the edge.
        [(left, right)] = self.pairs(1)
        with select.epoll() as epoll:
            epoll.register(left, select.EPOLLIN | select.EPOLLET)

            def release():
                for _ in range(3):
                    self.wait_until(lambda: len(results) == seen[0], "one edge taken")
                    seen[0] += 1
                    right.send(b"x")

            seen = [0]
            with self.blocked(epoll.poll, count=3) as results:
                release()

    def test_close_epoll(self):
        epoll = select.epoll()
        self.check_close(epoll.poll, epoll.close)

    def test_close_member(self):
        # select says EBADF, poll says POLLNVAL.
        [(left, right)] = self.pairs(1)

        def wait():
            try:
                return select.select([left], [], [])
            except OSError as exc:
                return exc.errno

        self.assertEqual(self.check_parks(wait, left.close, count=3), [errno.EBADF] * 3)
        [(left, right)] = self.pairs(1)
        fd = left.fileno()

        def poll():
            waiting = select.poll()
            waiting.register(fd, select.POLLIN)
            return waiting.poll()

        self.assertEqual(self.check_parks(poll, left.close, count=3),
                         [[(fd, select.POLLNVAL)]] * 3)


if __name__ == "__main__":
    unittest.main()

"""recv() without a native stack: same results, errors and references as with one."""

import errno
import fcntl
import io
import os
import socket
import sys
import threading
import traceback
import unittest

import virtual_threading
from test.test_virtual_threading.socket_util import SocketTestCase
from test.test_virtual_threading.soft_util import SoftTestCase, soft_parks
from test.test_virtual_threading.util import COUNT, LONG, SHORT, virtual
from virtual_threading import spawn


class RecvTests(SocketTestCase, SoftTestCase):

    def check_recv(self, recv, timeout=None):
        """recv(sock), in many threads that each have a socket of their own."""
        def make():
            pairs = self.pairs()
            waiting = [left for left, _ in pairs]
            for sock in waiting:
                sock.settimeout(timeout)
            def release():
                for _, right in pairs:
                    right.sendall(b"answer")
            return (lambda: recv(waiting.pop())), release
        found = self.check(make)
        self.assertEqual(len(set(found)), 1)
        return found[0]

    def test_recv(self):
        self.assertEqual(self.check_recv(lambda sock: sock.recv(10)), b"answer")

    def test_recv_with_timeout(self):
        self.assertEqual(self.check_recv(lambda sock: sock.recv(10), LONG), b"answer")

    def test_flags(self):
        def recv(sock):
            return sock.recv(3, socket.MSG_PEEK), sock.recv(*(10, 0))
        self.assertEqual(self.check_recv(recv), (b"ans", b"answer"))

    def test_calls(self):
        def recv(sock):
            bound, args = sock.recv, (1,)
            def inner(n):
                return bound(n)
            def generator():
                yield bound(1)
            return bound(1), bound(*args), inner(1), *generator()
        self.assertEqual(self.check_recv(recv), (b"a", b"n", b"s", b"w"))

    def test_threads_with_one_socket(self):
        # All are woken, and one of them finds something.
        def make():
            left, right = self.pair()
            return (lambda: left.recv(1)), lambda: right.sendall(b"x" * COUNT)
        self.assertEqual(self.check(make), [b"x"] * COUNT)

    def test_one_at_a_time(self):
        # Those that are woken for nothing wait on without a stack.
        def make():
            left, right = self.pair()
            got = threading.Semaphore(0)
            def block():
                found = left.recv(1)
                got.release()
                return found
            def release():
                for _ in range(COUNT):
                    right.sendall(b"x")
                    got.acquire()
            return block, release
        self.assertEqual(self.check(make), [b"x"] * COUNT)

    def test_end_of_stream(self):
        def make():
            left, right = self.pair()
            return (lambda: left.recv(1)), right.close
        self.assertEqual(self.check(make), [b""] * COUNT)

    def test_closed_here(self):
        def make():
            left, _ = self.pair()
            def block():
                try:
                    return left.recv(1)
                except OSError as exc:
                    return (exc.errno, exc.__traceback__.tb_lasti > 0,
                            [frame.name for frame in traceback.extract_tb(exc.__traceback__)])
            return block, left.close
        found = self.check(make)
        self.assertEqual(found, [(errno.EBADF, True, ['block'])] * COUNT)

    def test_timed_out(self):
        def wait():
            left, _ = self.pair()
            left.settimeout(SHORT)
            log = []
            for _ in range(3):
                try:
                    left.recv(1)
                except TimeoutError as exc:
                    log.append((str(exc), type(exc.__context__)))
            return log
        self.assertEqual(self.both_ways(lambda: self.call(wait), least=3)[0][0], "timed out")

    def test_made_nonblocking_behind_its_back(self):
        def wait():
            left, _ = self.pair()
            fcntl.fcntl(left, fcntl.F_SETFL, fcntl.fcntl(left, fcntl.F_GETFL) | os.O_NONBLOCK)
            with self.assertRaises(BlockingIOError):
                left.recv(1)
            return True
        self.assertTrue(self.both_ways(lambda: self.call(wait), soft=False))

    def test_nothing_to_wait_for(self):
        def wait():
            left, right = self.pair()
            right.sendall(b"abc")
            log = [left.recv(0), left.recv(1), left.recv(10, socket.MSG_DONTWAIT)]
            left.setblocking(False)
            for args in (1,), (-1,), ("a",), ():
                try:
                    left.recv(*args)
                except (BlockingIOError, ValueError, TypeError) as exc:
                    log.append(repr(exc))
            return log
        self.assertEqual(len(self.both_ways(lambda: self.call(wait), soft=False)), 7)

    def test_interrupt(self):
        def run():
            left, right = self.pair()
            log = []
            def wait():
                try:
                    left.recv(1)
                except KeyError as exc:
                    log.append(repr(exc))
                log.append(left.recv(1))
            thread = spawn(wait)
            self.wait_until(lambda: thread.state == 'parked', "the thread parked")
            thread.interrupt(KeyError(1))
            self.wait_until(lambda: log, "the exception")
            right.sendall(b"x")
            self.join([thread])
            return log
        self.assertEqual(self.both_ways(run), ['KeyError(1)', b"x"])

    def test_timeout_block(self):
        def wait():
            left, right = self.pair()
            try:
                with virtual_threading.timeout(SHORT):
                    left.recv(1)
            except TimeoutError:
                right.sendall(b"x")
                return left.recv(1)
        self.assertEqual(self.both_ways(lambda: self.call(wait)), b"x")

    @virtual
    def test_pinned(self):
        left, right = self.pair()
        timer = spawn(lambda: right.sendall(b"x"))
        with virtual_threading.pin():
            self.assertEqual(left.recv(1), b"x")
        timer.join()

    def test_seen(self):
        def run():
            left, right = self.pair()
            thread = spawn(lambda: left.recv(1))
            self.wait_until(lambda: thread.state == 'parked', "the thread parked")
            text = io.StringIO()
            virtual_threading.dump(text)
            right.sendall(b"x")
            self.join([thread])
            del thread
            return 'socket recv' in text.getvalue(), sys.getrefcount(left)
        self.assertTrue(self.both_ways(run)[0])

    def test_no_stacks(self):
        before = soft_parks()
        left, right = self.pair()
        with self.blocked(lambda: left.recv(1), count=400) as results:
            self.assertGreaterEqual(soft_parks() - before, 400)
            right.sendall(b"x" * 400)
        self.assertEqual(results, [b"x"] * 400)


if __name__ == '__main__':
    unittest.main()

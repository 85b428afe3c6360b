"""Other calls of sockets than recv() that wait without a native stack."""

import array
import contextlib
import errno
import socket
import unittest

from test.test_virtual_threading.socket_util import BIG
from test.test_virtual_threading.soft_util import SoftSocketTestCase, soft_parks
from test.test_virtual_threading.util import COUNT, LONG, SHORT
from virtual_threading import spawn


class RecvIntoTests(SoftSocketTestCase):

    def check_recv_into(self, make_buffer, *args, timeout=None, soft=True):
        """recv_into(make_buffer(), *args) in many threads, each with a socket of its own."""
        def make():
            pairs = self.pairs()
            waiting = [left for left, _ in pairs]
            for sock in waiting:
                sock.settimeout(timeout)
            def block():
                buffer = make_buffer()
                n = waiting.pop().recv_into(buffer, *args)
                return n, bytes(buffer)
            def release():
                for _, right in pairs:
                    right.sendall(b"answer")
            return block, release
        found = self.check(make, soft)
        self.assertEqual(len(set(found)), 1)
        return found[0]

    def test_bytearray(self):
        self.assertEqual(self.check_recv_into(lambda: bytearray(8)), (6, b"answer\0\0"))

    def test_size_and_flags(self):
        self.assertEqual(self.check_recv_into(lambda: bytearray(8), 3, socket.MSG_PEEK),
                         (3, b"ans\0\0\0\0\0"))

    def test_timeout(self):
        self.assertEqual(self.check_recv_into(lambda: bytearray(6), timeout=LONG),
                         (6, b"answer"))

    def test_part_of_a_memoryview(self):
        def make():
            left, right = self.pair()
            def block():
                buffer = bytearray(b"........")
                return left.recv_into(memoryview(buffer)[2:5]), bytes(buffer)
            return block, lambda: right.sendall(b"abc" * COUNT)
        self.assertEqual(self.check(make), [(3, b"..abc...")] * COUNT)

    def test_other_buffer(self):
        # Those that might run Python code when they are asked once more.
        self.assertEqual(self.check_recv_into(lambda: array.array('b', bytes(6)), soft=False),
                         (6, b"answer"))

    def test_buffer_stays(self):
        def run():
            left, right = self.pair()
            buffer = bytearray(4)
            thread = spawn(lambda: left.recv_into(buffer))
            self.wait_until(lambda: thread.state == 'parked', "the thread parked")
            with self.assertRaises(BufferError):
                buffer.extend(b"more")
            right.sendall(b"abcd")
            self.join([thread])
            buffer.extend(b"more")
            return buffer
        self.assertEqual(self.both_ways(run), b"abcdmore")

    def test_buffer_is_let_go(self):
        # Also when the thread goes on on another carrier than where it began to wait, which has
        # made what held the buffer.
        def make():
            left, right = self.pair()
            def block():
                buffer = bytearray(4)
                left.recv_into(buffer)
                buffer.extend(b"more")
                return bytes(buffer)
            return block, lambda: right.sendall(b"abcd" * COUNT)
        self.assertEqual(self.check(make), [b"abcdmore"] * COUNT)

    def test_timed_out(self):
        def wait():
            left, _ = self.pair()
            left.settimeout(SHORT)
            buffer = bytearray(1)
            with self.assertRaisesRegex(TimeoutError, "timed out"):
                left.recv_into(buffer)
            buffer.extend(b"more")
            return True
        self.assertTrue(self.both_ways(lambda: self.call(wait)))

    def test_errors(self):
        def wait():
            left, right = self.pair()
            right.sendall(b"abc")
            log = []
            for args in (b"read-only",), (bytearray(1), 2), (bytearray(1), -1), ():
                try:
                    left.recv_into(*args)
                except (TypeError, ValueError, BufferError) as exc:
                    log.append(repr(exc))
            log.append(left.recv_into(bytearray()))
            return log
        self.assertEqual(len(self.both_ways(lambda: self.call(wait), soft=False)), 5)


class AcceptTests(SoftSocketTestCase):

    def check_accept(self, timeout):
        def make():
            listener = self.listener()
            listener.settimeout(timeout)
            def block():
                sock, address = listener.accept()
                self.addCleanup(sock.close)
                return (address == sock.getpeername(), sock.getblocking(),
                        sock.get_inheritable())
            def release():
                for _ in range(COUNT):
                    self.open().connect(listener.getsockname())
            return block, release
        self.assertEqual(self.check(make), [(True, True, False)] * COUNT)

    def test_accept(self):
        self.check_accept(None)

    def test_accept_with_timeout(self):
        self.check_accept(LONG)

    def test_one_at_a_time(self):
        # All are woken for each connection.
        def make():
            listener = self.listener()
            got = []
            def block():
                with listener.accept()[0] as sock:
                    got.append(sock)
                    return sock.recv(1)
            def release():
                for n in range(COUNT):
                    self.wait_until(lambda: len(got) == n, "the connection was accepted")
                    sock = self.open()
                    sock.connect(listener.getsockname())
                    sock.sendall(b"x")
            return block, release
        self.assertEqual(self.check(make), [b"x"] * COUNT)

    def test_timed_out(self):
        def wait():
            listener = self.listener()
            listener.settimeout(SHORT)
            with self.assertRaisesRegex(TimeoutError, "timed out"):
                listener.accept()
            return True
        self.assertTrue(self.both_ways(lambda: self.call(wait)))

    def test_closed_here(self):
        def make():
            listener = self.listener()
            def block():
                try:
                    listener.accept()
                except OSError as exc:
                    return exc.errno
            return block, listener.close
        self.assertEqual(self.check(make), [errno.EBADF] * COUNT)

    def test_interrupt(self):
        def run():
            listener = self.listener()
            def block():
                try:
                    listener.accept()
                except ValueError as exc:
                    return repr(exc)
            return self.interrupted(block)
        self.assertEqual(self.both_ways(run), "ValueError(1)")


class ConnectTests(SoftSocketTestCase):

    def check_connect(self, timeout):
        def make():
            listener = self.full_listener()
            stop = self.make_event()
            def block():
                with socket.socket() as sock:
                    sock.settimeout(timeout)
                    sock.connect(listener.getsockname())
                    return sock.getpeername() == listener.getsockname(), sock.gettimeout()
            def accept():
                listener.settimeout(SHORT)
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        listener.accept()[0].close()
            def release():
                if not accepting:
                    accepting.append(spawn(accept))
                    self.addCleanup(accepting[0].join)
                    self.addCleanup(stop.set)
            accepting = []
            return block, release
        # As many as the kernel tries again soon for: it waits a second, then two, ...
        def run():
            block, release = make()
            return self.check_parks(block, release, count=2)
        self.assertEqual(self.both_ways(run, least=2), [(True, timeout)] * 2)

    def test_connect(self):
        self.check_connect(None)

    def test_connect_with_timeout(self):
        self.check_connect(LONG)

    def test_timed_out(self):
        def wait():
            listener = self.full_listener()
            with socket.socket() as sock:
                sock.settimeout(SHORT)
                with self.assertRaisesRegex(TimeoutError, "timed out"):
                    sock.connect(listener.getsockname())
            return True
        self.assertTrue(self.both_ways(lambda: self.call(wait)))

    def test_interrupt(self):
        def run():
            listener = self.full_listener()
            def block():
                with socket.socket() as sock:
                    try:
                        sock.connect(listener.getsockname())
                    except ValueError as exc:
                        return repr(exc)
            return self.interrupted(block)
        self.assertEqual(self.both_ways(run), "ValueError(1)")


class SendTests(SoftSocketTestCase):

    def check_send(self, send, data, timeout=None):
        """send(sock, data) in many threads, with sockets that are full."""
        def make():
            pairs = self.pairs()
            waiting = [left for left, _ in pairs]
            for sock in waiting:
                self.fill(sock)
                sock.settimeout(timeout)
            def block():
                return send(waiting.pop(), data)
            def release():
                def read(sock):
                    tail = b""
                    while got := sock.recv(1 << 16):
                        tail = (tail + got)[-20:]
                        ends[sock] = tail
                self.readers = [spawn(read, right) for _, right in pairs]
            ends = {}
            self.ends, self.pairs_of_test = ends, pairs
            return block, release

        def run():
            block, release = make()
            found = self.check_parks(block, release)
            for left, _ in self.pairs_of_test:
                left.close()
            self.join(self.readers)
            return found, set(self.ends.values())
        return self.both_ways(run, least=COUNT)

    def test_sendall(self):
        data = bytes(range(256)) * 4096
        for timeout in None, LONG:
            with self.subTest(timeout=timeout):
                found, ends = self.check_send(socket.socket.sendall, data, timeout)
                self.assertEqual(found, [None] * COUNT)
                self.assertEqual(ends, {data[-20:]})

    def test_send(self):
        # On a blocking stream it returns when all is sent.
        data = bytes(range(256)) * 4096
        found, ends = self.check_send(socket.socket.send, data)
        self.assertEqual(found, [len(data)] * COUNT)
        self.assertEqual(ends, {data[-20:]})

    def test_send_with_timeout(self):
        # Some of it, once there is room.
        found, _ = self.check_send(lambda sock, data: 0 < sock.send(data) <= len(data),
                                   bytes(1 << 20), LONG)
        self.assertEqual(found, [True] * COUNT)

    def test_buffers(self):
        data = bytes(range(256)) * 4096
        for make in bytearray, memoryview:
            with self.subTest(make=make):
                found, ends = self.check_send(lambda sock, data: sock.sendall(make(data)), data)
                self.assertEqual(ends, {data[-20:]})

    def check_blocked(self, data, count):
        """Many threads wait to send to a full socket, which then goes; their soft parks."""
        left, right = self.pair()
        self.fill(left)
        def block():
            with self.assertRaises(OSError):
                left.sendall(data)
        before = soft_parks()
        with self.blocked(block, count=count):
            parks = soft_parks() - before
            right.close()
        return parks

    def test_no_stacks(self):
        self.assertGreaterEqual(self.check_blocked(b"x", 400), 400)

    def test_other_buffer(self):
        self.assertEqual(self.check_blocked(array.array('b', b"x"), COUNT), 0)

    def test_timed_out(self):
        def wait():
            left, _ = self.pair()
            self.fill(left)
            left.settimeout(SHORT)
            log = []
            for send in left.sendall, left.send:
                with self.assertRaisesRegex(TimeoutError, "timed out"):
                    send(bytes(1 << 20))
                log.append(left.gettimeout())
            return log
        self.assertEqual(self.both_ways(lambda: self.call(wait), least=2), [SHORT] * 2)

    def test_reset(self):
        def make():
            left, right = self.pair()
            self.fill(left)
            def block():
                try:
                    left.sendall(b"x")
                except OSError as exc:
                    return exc.errno
            return block, right.close
        self.assertLessEqual(set(self.check(make)), {errno.EPIPE, errno.ECONNRESET})

    def test_interrupt(self):
        def run(send):
            left, right = self.pair()
            self.fill(left)
            def block():
                try:
                    send(left, b"x")
                except ValueError as exc:
                    return repr(exc)
            return self.interrupted(block)
        for send in socket.socket.sendall, socket.socket.send:
            with self.subTest(send=send.__name__):
                self.assertEqual(self.both_ways(lambda: run(send)), "ValueError(1)")

    def test_interrupt_of_what_was_sent_in_part(self):
        # send() says how much that was, and the next call raises.
        def run():
            left, right = self.pair()
            def block():
                sent = left.send(bytes(BIG))
                try:
                    left.recv(1)
                except ValueError as exc:
                    return 0 < sent < BIG, repr(exc)
            return self.interrupted(block)
        self.assertEqual(self.both_ways(run), (True, "ValueError(1)"))


if __name__ == '__main__':
    unittest.main()

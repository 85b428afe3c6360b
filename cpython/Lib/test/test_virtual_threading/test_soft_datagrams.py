"""recvfrom(), recvfrom_into() and recvmsg() without a native stack."""

import array
import errno
import fcntl
import os
import socket
import threading
import unittest

from test.test_virtual_threading.soft_util import SoftSocketTestCase
from test.test_virtual_threading.util import COUNT, LONG, SHORT


def recvfrom(sock):
    return sock.recvfrom(10)


def recvfrom_into(sock):
    buffer = bytearray(8)
    n, address = sock.recvfrom_into(buffer)
    buffer.extend(b"!")                 # it was let go
    return n, bytes(buffer), address


def recvmsg(sock):
    return sock.recvmsg(10)


CALLS = recvfrom, recvfrom_into, recvmsg


class DatagramTests(SoftSocketTestCase):

    def datagram(self):
        sock = self.open(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        return sock

    def check_receive(self, receive, timeout=None, soft=True):
        """receive(sock), in many threads that each have a socket of their own.

        What it returns, but for the address at its end, which is the sender's.
        """
        def make():
            sender, receivers = self.datagram(), [self.datagram() for _ in range(COUNT)]
            waiting = list(receivers)
            for sock in receivers:
                sock.settimeout(timeout)
            def block():
                *found, address = receive(waiting.pop())
                self.assertEqual(address, sender.getsockname())
                return found
            def release():
                for sock in receivers:
                    sender.sendto(b"answer", sock.getsockname())
            return block, release
        found = self.check(make, soft)
        self.assertEqual(found, [found[0]] * COUNT)
        return found[0]

    def test_calls(self):
        for timeout in None, LONG:
            with self.subTest(timeout=timeout):
                self.assertEqual(self.check_receive(recvfrom, timeout), [b"answer"])
                self.assertEqual(self.check_receive(recvfrom_into, timeout),
                                 [6, b"answer\0\0!"])
                self.assertEqual(self.check_receive(recvmsg, timeout), [b"answer", [], 0])

    def test_size_and_flags(self):
        peek = socket.MSG_PEEK
        def into(sock):
            buffer = bytearray(8)
            n, address = sock.recvfrom_into(buffer, nbytes=3, flags=peek)
            return n, bytes(buffer), address
        self.assertEqual(self.check_receive(lambda sock: sock.recvfrom(3, peek)), [b"ans"])
        self.assertEqual(self.check_receive(into), [3, b"ans" + bytes(5)])
        self.assertEqual(self.check_receive(lambda sock: sock.recvmsg(3, 64, peek)),
                         [b"ans", [], socket.MSG_TRUNC])

    def test_part_of_a_memoryview(self):
        def receive(sock):
            buffer = bytearray(b"........")
            n, address = sock.recvfrom_into(memoryview(buffer)[2:5])
            return n, bytes(buffer), address
        self.assertEqual(self.check_receive(receive), [3, b"..ans..."])

    def test_with_a_stack(self):
        # Buffers that might run Python code when they are asked once more, or several of them.
        def other(sock):
            buffer = array.array('b', bytes(6))
            n, address = sock.recvfrom_into(buffer)
            return buffer.tobytes(), address
        def several(sock):
            buffers = bytearray(2), bytearray(4)
            *found, address = sock.recvmsg_into(buffers)
            return *found, *buffers, address
        self.assertEqual(self.check_receive(other, soft=False), [b"answer"])
        self.assertEqual(self.check_receive(several, soft=False), [6, [], 0, b"an", b"swer"])

    def test_descriptors(self):
        def make():
            left, right = self.pair()
            def block():
                data, [(_, kind, fd)], _, _ = left.recvmsg(1, socket.CMSG_SPACE(4))
                fds = array.array('i', fd)
                with open(fds[0]) as file:
                    return data, kind, os.get_inheritable(file.fileno())
            def release():
                with open(os.devnull) as file:
                    for _ in range(COUNT):
                        socket.send_fds(right, [b"x"], [file.fileno()])
            return block, release
        self.assertEqual(self.check(make), [(b"x", socket.SCM_RIGHTS, True)] * COUNT)

    def test_one_at_a_time(self):
        # Those that are woken for nothing wait on without a stack.
        def make(call):
            receiver, sender = self.datagram(), self.datagram()
            got = threading.Semaphore(0)
            def block():
                found = call(receiver)[0]
                got.release()
                return found
            def release():
                for _ in range(COUNT):
                    sender.sendto(b"answer", receiver.getsockname())
                    got.acquire()
            return block, release
        for call in CALLS:
            with self.subTest(call=call.__name__):
                self.assertEqual(len(set(self.check(lambda: make(call)))), 1)

    def test_timed_out(self):
        def wait(call):
            sock = self.datagram()
            sock.settimeout(SHORT)
            with self.assertRaisesRegex(TimeoutError, "timed out"):
                call(sock)
            return True
        for call in CALLS:
            with self.subTest(call=call.__name__):
                self.assertTrue(self.both_ways(lambda: self.call(lambda: wait(call))))

    def test_closed_here(self):
        def make(call):
            sock = self.datagram()
            def block():
                try:
                    call(sock)
                except OSError as exc:
                    return exc.errno
            return block, sock.close
        for call in CALLS:
            with self.subTest(call=call.__name__):
                self.assertEqual(self.check(lambda: make(call)), [errno.EBADF] * COUNT)

    def test_non_blocking_meanwhile(self):
        # Who finds nothing then does not wait on.
        def make(call):
            receiver, sender = self.datagram(), self.datagram()
            def block():
                try:
                    return len(call(receiver)) > 0
                except BlockingIOError:
                    return False
            def release():
                fcntl.fcntl(receiver, fcntl.F_SETFL, os.O_NONBLOCK)     # settimeout() races
                sender.sendto(b"answer", receiver.getsockname())
            return block, release
        for call in CALLS:
            with self.subTest(call=call.__name__):
                self.assertEqual(self.check(lambda: make(call)),
                                 [False] * (COUNT - 1) + [True])

    def test_interrupt(self):
        def run(call):
            sock = self.datagram()
            def block():
                try:
                    call(sock)
                except ValueError as exc:
                    return repr(exc)
            return self.interrupted(block)
        for call in CALLS:
            with self.subTest(call=call.__name__):
                self.assertEqual(self.both_ways(lambda: run(call)), "ValueError(1)")

    def test_errors(self):
        def wait():
            sock = self.datagram()
            log = []
            for call, *args in ((sock.recvfrom, -1), (sock.recvfrom,), (sock.recvfrom_into, b"x"),
                                (sock.recvfrom_into, bytearray(1), 2), (sock.recvmsg, -1),
                                (sock.recvmsg, 1, -1), (sock.recvmsg, 1, 1 << 32)):
                try:
                    call(*args)
                except (TypeError, ValueError, BufferError) as exc:
                    log.append(repr(exc))
            return log
        self.assertEqual(len(self.both_ways(lambda: self.call(wait), soft=False)), 7)


if __name__ == '__main__':
    unittest.main()

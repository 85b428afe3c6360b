"""Sockets that are ready for ever, but not for the call that waits.

The calls block their OS threads then, or return, as the kernel has it; they must not try again
and again.
"""

import os
import select
import socket
import unittest

from test.test_virtual_threading.io_util import Hands
from test.test_virtual_threading.soft_util import SoftSocketTestCase
from test.test_virtual_threading.util import COUNT, SHORT, TIMEOUT


RECEIVE = {
    'recv': lambda sock: sock.recv(1),
    'recv_into': lambda sock: sock.recv_into(bytearray(1)) * b"x",
    'recvfrom': lambda sock: sock.recvfrom(1)[0],
    'recvfrom_into': lambda sock: sock.recvfrom_into(bytearray(1))[0] * b"x",
    'recvmsg': lambda sock: sock.recvmsg(1)[0],
    'recvmsg_into': lambda sock: sock.recvmsg_into([bytearray(1)])[0] * b"x",
    'read': lambda sock: os.read(sock.fileno(), 1),
}

BUFFER = 1 << 16
SENT = bytes(1 << 20)          # more than is in the buffers of both ends


def write_all(sock):
    """os.write() of one that is stuck may return early, as POSIX has it."""
    done = 0
    while done < len(SENT):
        done += os.write(sock.fileno(), SENT[done:])
    return done


SEND = {
    'send': lambda sock: sock.send(SENT),
    'sendall': lambda sock: sock.sendall(SENT),
    'sendmsg': lambda sock: sock.sendmsg([SENT]),
    'write': write_all,
}

# <linux/in.h>, <asm/socket.h>, <linux/net_tstamp.h>; the socket module does not have them.
IP_RECVERR = 11
SO_TIMESTAMPING = 37
TIMESTAMP_SENT = 1 << 1 | 1 << 4


class StuckTests(SoftSocketTestCase):

    def udp(self):
        sock = self.open(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        return sock

    def both_ends(self):
        left, right = self.udp(), self.udp()
        left.connect(right.getsockname())
        right.connect(left.getsockname())
        return left, right

    def with_error_queue(self):
        """A socket whose error queue nobody reads, and the one that it is connected to."""
        left, right = self.both_ends()
        port = right.getsockname()
        left.setsockopt(socket.SOL_IP, IP_RECVERR, 1)
        right.close()
        left.send(b"x")                     # refused: on the loopback, before send() returns
        with self.assertRaises(ConnectionRefusedError):
            left.recv(1)
        right = self.open(socket.AF_INET, socket.SOCK_DGRAM)
        right.bind(port)
        right.connect(left.getsockname())
        return left, right

    def check(self, make, release, expected, **kwargs):
        """Each of the calls, in many threads with a socket of make() each."""
        for name, receive in RECEIVE.items():
            with self.subTest(name):
                def run():
                    pairs = [make() for _ in range(COUNT)]
                    left = Hands(pair[0] for pair in pairs)
                    return self.check_parks(lambda: receive(left()),
                                            lambda: [release(*pair) for pair in pairs], **kwargs)
                soft = name not in ('recvmsg_into', 'read')
                self.assertEqual(self.both_ways(run, soft, least=COUNT), [expected] * COUNT)

    def test_udp_shut_down(self):
        self.check(self.both_ends, lambda left, _: left.shutdown(socket.SHUT_RD), b"")

    def test_unix_datagrams_shut_down(self):
        self.check(lambda: self.pair(socket.AF_UNIX, socket.SOCK_DGRAM),
                   lambda left, _: left.shutdown(socket.SHUT_RD), b"")

    def test_shut_down_before(self):
        left, _ = self.both_ends()
        left.shutdown(socket.SHUT_RD)
        for name, receive in RECEIVE.items():
            with self.subTest(name):
                self.assertEqual(self.call(receive, left), b"")

    def test_error_queue(self):
        # Each has an OS thread: were they to try again and again, not all would run at once.
        self.check(self.with_error_queue, lambda _, right: right.send(b"x"), b"x",
                   states=('running',))

    def test_error_queue_and_timeout(self):
        left, _ = self.with_error_queue()
        left.settimeout(SHORT)
        for name, receive in RECEIVE.items():
            if name != 'read':
                with self.subTest(name), self.assertRaises(TimeoutError):
                    self.call(receive, left)

    def stamped(self):
        """A pair with the time stamp of something sent in the error queue, and little room."""
        left, right = self.connected()
        left.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TIMESTAMP_SENT)
        left.send(b"x")
        with select.epoll() as poll:
            poll.register(left, select.EPOLLERR)
            self.assertTrue(poll.poll(TIMEOUT))
        left.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, 0)
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        right.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        return left, right

    def test_send(self):
        def receive(sock):
            sock.settimeout(TIMEOUT)
            left = 1 + len(SENT)
            while left > 0:
                left -= len(sock.recv(left))

        for name, send in SEND.items():
            with self.subTest(name):
                def run():
                    pairs = [self.stamped() for _ in range(COUNT)]
                    left = Hands(pair[0] for pair in pairs)
                    return self.check_parks(lambda: send(left()),
                                            lambda: [receive(right) for _, right in pairs],
                                            states=('running',))
                soft = name in ('send', 'sendall')
                self.assertEqual(self.both_ways(run, soft, least=COUNT),
                                 [None if name == 'sendall' else len(SENT)] * COUNT)


if __name__ == "__main__":
    unittest.main()

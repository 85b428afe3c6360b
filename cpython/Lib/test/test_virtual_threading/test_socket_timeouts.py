"""Sockets that do not block, or no longer than a timeout."""

import os
import socket
import struct
import time
import unittest

from test.test_virtual_threading.io_util import Hands
from test.test_virtual_threading.socket_util import BIG, SocketTestCase
from test.test_virtual_threading.util import COUNT


class ModeTests(SocketTestCase):

    def test_nonblocking(self):
        left, _ = self.pair()
        left.setblocking(False)
        self.assertRaises(BlockingIOError, self.call, left.recv, 1)
        self.assertRaises(BlockingIOError, self.call, left.recv_into, bytearray(1))
        self.assertRaises(BlockingIOError, self.call, left.recvfrom, 1)

        def fill():
            while True:
                left.send(b"x" * 65536)
        self.assertRaises(BlockingIOError, self.call, fill)

        listener = self.listener()
        listener.setblocking(False)
        self.assertRaises(BlockingIOError, self.call, listener.accept)

    def test_blocking_again(self):
        pairs = self.pairs()
        left = Hands(pair[0] for pair in pairs)

        def receive():
            sock = left()
            sock.setblocking(False)
            self.assertRaises(BlockingIOError, sock.recv, 10)
            sock.setblocking(True)
            return sock.recv(10)

        results = self.check_parks(
            receive, lambda: [right.sendall(b"x") for _, right in pairs])
        self.assertEqual(results, [b"x"] * COUNT)

    def test_nonblocking_behind_its_back(self):
        left, _ = self.pair()
        os.set_blocking(left.fileno(), False)
        self.assertRaises(BlockingIOError, self.call, left.recv, 1)
        self.assertRaises(BlockingIOError, self.call, left.recvfrom, 1)
        listener = self.listener()
        os.set_blocking(listener.fileno(), False)
        self.assertRaises(BlockingIOError, self.call, listener.accept)

    def test_mode_is_kept(self):
        # Others may share the open file: a blocking socket stays blocking.
        pairs = self.pairs()
        left = Hands(pair[0] for pair in pairs)

        def release():
            for sock, peer in pairs:
                self.assertTrue(os.get_blocking(sock.fileno()))
                peer.sendall(b"x")

        self.check_parks(lambda: left().recv(10), release)
        self.assertEqual({os.get_blocking(sock.fileno()) for sock, _ in pairs}, {True})

    def test_kernel_timeout(self):
        left, _ = self.pair()
        left.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 20_000))
        self.assertRaises(BlockingIOError, self.call, left.recv, 1)


class TimeoutTests(SocketTestCase):

    def test_timeouts(self):
        left, _ = self.pair()
        listener = self.listener()
        seconds = 0.05
        left.settimeout(seconds)
        listener.settimeout(seconds)
        calls = {
            "recv": lambda: left.recv(1),
            "recv_into": lambda: left.recv_into(bytearray(1)),
            "recvfrom": lambda: left.recvfrom(1),
            "recvmsg": lambda: left.recvmsg(1),
            "accept": listener.accept,
            "sendall": lambda: left.sendall(b"x" * BIG),
        }

        def measure(function):
            start = time.monotonic()
            with self.assertRaisesRegex(TimeoutError, "^timed out$"):
                function()
            return time.monotonic() - start

        for name, function in calls.items():
            with self.subTest(name):
                self.assertGreaterEqual(self.call(measure, function), seconds)

    def test_many_timeouts(self):
        socks = [pair[0] for pair in self.pairs()]
        for sock in socks:
            sock.settimeout(0.01)

        def receive(sock):
            with self.assertRaises(TimeoutError):
                sock.recv(1)
            return True

        for _ in range(5):
            self.assertEqual(self.call_all([lambda s=s: receive(s) for s in socks]),
                             [True] * COUNT)

    def test_many_accept_timeouts(self):
        listener = self.listener()
        listener.settimeout(0.01)
        self.call_all([lambda: self.assertRaises(TimeoutError, listener.accept)] * COUNT)

    def test_many_send_timeouts(self):
        def send(sock):
            sock.settimeout(0.01)
            self.assertRaises(TimeoutError, sock.sendall, b"x" * BIG)

        self.call_all([lambda s=left: send(s) for left, _ in self.pairs(10)])

    def test_used_after_timeouts(self):
        def receive(left, right):
            left.settimeout(0.01)
            for _ in range(3):
                self.assertRaises(TimeoutError, left.recv, 10)
            right.sendall(b"x")
            return left.recv(10)

        self.assertEqual(self.call_all([lambda p=pair: receive(*p) for pair in self.pairs()]),
                         [b"x"] * COUNT)


if __name__ == "__main__":
    unittest.main()

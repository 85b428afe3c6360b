"""What the tests of sockets share."""

import contextlib
import fcntl
import os
import socket
import struct
import termios
from test.support import socket_helper

from test.test_virtual_threading.util import COUNT, TestCase

BIG = 4 << 20           # more than any socket buffer holds
HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
FAMILIES = list(HOSTS) if socket_helper.IPV6_ENABLED else [socket.AF_INET]


class SocketTestCase(TestCase):

    def open(self, *args):
        sock = socket.socket(*args)
        self.addCleanup(sock.close)
        return sock

    def pair(self, *args):
        left, right = socket.socketpair(*args)
        self.addCleanup(left.close)
        self.addCleanup(right.close)
        return left, right

    def pairs(self, count=COUNT, *args):
        return [self.pair(*args) for _ in range(count)]

    def listener(self, family=socket.AF_INET, backlog=128):
        sock = self.open(family, socket.SOCK_STREAM)
        sock.bind((HOSTS[family], 0))
        sock.listen(backlog)
        return sock

    def full_listener(self):
        """One whose queue is full: what connects to it waits."""
        listener = self.listener(backlog=0)
        for _ in range(10):
            filler = self.open()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        return listener

    def connected(self):
        server = self.listener()
        client = self.open()
        client.connect(server.getsockname())
        other, _ = server.accept()
        self.addCleanup(other.close)
        return client, other

    @staticmethod
    def fill(sock):
        """Leaves no room for what is sent next."""
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(b"x" * 65536, socket.MSG_DONTWAIT)

    @staticmethod
    def is_nonblocking(sock):
        return bool(fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK)

    @staticmethod
    def unread(sock):
        """How many bytes have come that nobody has received."""
        return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]

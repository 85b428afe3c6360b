"""Reads and writes of FIFOs, terminals, devices, files and event descriptors."""

import os
import sys
import time
import pty
import unittest
from test.support import os_helper

from test.test_virtual_threading.io_util import Hands
from test.test_virtual_threading.util import COUNT, TestCase

BIG = 1 << 20


class FileTests(TestCase):

    def test_fifo(self):
        with os_helper.temp_dir() as directory:
            path = os.path.join(directory, "fifo")
            os.mkfifo(path)
            fd = os.open(path, os.O_RDWR)
            self.addCleanup(os.close, fd)
            self.assertEqual(
                self.check_parks(lambda: os.read(fd, 1), lambda: os.write(fd, b"x" * COUNT)),
                [b"x"] * COUNT)

    def test_terminal(self):
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        self.addCleanup(os.close, slave)
        self.assertEqual(
            self.check_parks(lambda: os.read(slave, 100),
                             lambda: os.write(master, b"hello\n"), count=1),
            [b"hello\n"])
        # A line each, whoever is first.
        self.assertEqual(
            self.check_parks(lambda: os.read(slave, 100),
                             lambda: os.write(master, b"line\n" * COUNT)),
            [b"line\n"] * COUNT)

    def test_devices(self):
        def use():
            with open("/dev/zero", "rb", buffering=0) as file:
                self.assertEqual(file.read(10), bytes(10))
            with open("/dev/null", "r+b", buffering=0) as file:
                self.assertEqual(file.write(b"x"), 1)
                self.assertEqual(file.read(10), b"")
            with open("/dev/zero", "rb") as file:
                self.assertEqual(file.read(100), bytes(100))
            with open("/dev/urandom", "rb", buffering=0) as file:
                return len(file.read(10))
        self.assertEqual(self.call_all([use] * 20), [10] * 20)

    def test_regular_file(self):
        data = os.urandom(BIG)
        with os_helper.temp_dir() as directory:
            path = os.path.join(directory, "file")

            def write_and_read():
                with open(path, "wb") as file:
                    self.assertEqual(file.write(data), BIG)
                fd = os.open(path, os.O_RDONLY)
                try:
                    return os.read(fd, BIG + 1)
                finally:
                    os.close(fd)

            self.assertEqual(self.call(write_and_read), data)

    def test_close_fifo(self):
        with os_helper.temp_dir() as directory:
            path = os.path.join(directory, "fifo")
            os.mkfifo(path)
            fd = os.open(path, os.O_RDWR)
            self.check_close(lambda: os.read(fd, 1), lambda: os.close(fd))

    def test_close_terminal(self):
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        self.check_close(lambda: os.read(slave, 1), lambda: os.close(slave))


@unittest.skipUnless(hasattr(os, "eventfd"), "needs eventfd")
class EventTests(TestCase):

    def test_eventfd(self):
        fds = [os.eventfd(0) for _ in range(COUNT)]
        for fd in fds:
            self.addCleanup(os.close, fd)
        ends = Hands(fds)
        self.assertEqual(
            self.check_parks(lambda: os.eventfd_read(ends()),
                             lambda: [os.eventfd_write(fd, 7) for fd in fds]),
            [7] * COUNT)

    def test_eventfd_semaphore(self):
        fd = os.eventfd(0, os.EFD_SEMAPHORE)
        self.addCleanup(os.close, fd)
        self.assertEqual(
            self.check_parks(lambda: os.eventfd_read(fd),
                             lambda: os.eventfd_write(fd, COUNT)),
            [1] * COUNT)

    def test_eventfd_full(self):
        fd = os.eventfd(0)
        self.addCleanup(os.close, fd)
        os.eventfd_write(fd, 2**64 - 2)
        self.assertEqual(
            self.check_parks(lambda: os.eventfd_write(fd, 1),
                             lambda: os.eventfd_read(fd), count=1),
            [None])

    def test_eventfd_nonblocking(self):
        fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.addCleanup(os.close, fd)
        self.assertRaises(BlockingIOError, self.call, os.eventfd_read, fd)

    def test_eventfd_contended(self):
        # Who gets nothing does not block its carrier.
        fd = os.eventfd(0, os.EFD_SEMAPHORE)
        self.addCleanup(os.close, fd)
        one = (1).to_bytes(8, sys.byteorder)
        self.assertEqual(
            self.check_parks(lambda: os.read(fd, 8),
                             lambda: [os.write(fd, one) for _ in range(COUNT)]),
            [one] * COUNT)

    def test_fails_at_once(self):
        # They are not waited for: they might never be ready.
        timer = os.timerfd_create(time.CLOCK_MONOTONIC)
        event, process = os.eventfd(0), os.pidfd_open(os.getpid())
        for fd in timer, event, process:
            self.addCleanup(os.close, fd)
        calls = [lambda: os.read(timer, 7), lambda: os.read(event, 7), lambda: os.read(process, 8),
                 lambda: os.write(timer, bytes(8)), lambda: os.write(process, bytes(8))]

        def fails(call):
            with self.assertRaises(OSError) as caught:
                call()
            return caught.exception.errno

        for index, call in enumerate(calls):
            with self.subTest(index=index):
                self.assertEqual(self.call(fails, call), fails(call))

    def test_close_eventfd(self):
        fd = os.eventfd(0)
        self.check_close(lambda: os.eventfd_read(fd), lambda: os.close(fd))


if __name__ == "__main__":
    unittest.main()

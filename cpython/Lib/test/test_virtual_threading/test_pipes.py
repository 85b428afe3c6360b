"""Reads and writes of pipes park."""

import contextlib
import errno
import io
import logging
import multiprocessing
import os
import select
import socket
import sys
import unittest
from test.support import swap_attr

from test.test_virtual_threading.io_util import Hands
from test.test_virtual_threading.util import COUNT, TestCase
from virtual_threading import spawn

BIG = 1 << 20           # more than a pipe holds


class PipeTestCase(TestCase):

    def pipe(self):
        read, write = os.pipe()
        self.addCleanup(self.close, read, os.fstat(read))
        self.addCleanup(self.close, write, os.fstat(write))
        return read, write

    @staticmethod
    def close(fd, stat):
        """Unless a test has: the number may be another file's by now."""
        try:
            if os.path.samestat(os.fstat(fd), stat):
                os.close(fd)
        except OSError as exc:
            if exc.errno != errno.EBADF:
                raise

    @staticmethod
    def fill(fd):
        """Leaves no room for another byte; how many there was room for."""
        size = 0
        os.set_blocking(fd, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                size += os.write(fd, b"x" * BIG)
        os.set_blocking(fd, True)
        return size


class ReadTests(PipeTestCase):

    def check_read(self, read):
        pipes = [self.pipe() for _ in range(COUNT)]
        ends = Hands(read for read, _ in pipes)

        def release():
            for fd, write in pipes:
                self.assertTrue(os.get_blocking(fd))
                os.write(write, b"hello\n")

        self.assertEqual(self.check_parks(lambda: read(ends()), release),
                         [b"hello\n"] * COUNT)

    def test_os_read(self):
        self.check_read(lambda fd: os.read(fd, 100))

    def test_readv(self):
        def read(fd):
            buffers = [bytearray(2), bytearray(100)]
            self.assertEqual(os.readv(fd, buffers), 6)
            return bytes(buffers[0] + buffers[1][:4])
        self.check_read(read)

    def test_fileio(self):
        def read(fd):
            with io.FileIO(fd, closefd=False) as file:
                return file.read(100)
        self.check_read(read)

    def test_readinto(self):
        def read(fd):
            buffer = bytearray(100)
            with io.FileIO(fd, closefd=False) as file:
                size = file.readinto(buffer)
            return bytes(buffer[:size])
        self.check_read(read)

    def test_buffered(self):
        def read(fd):
            with open(fd, "rb", closefd=False) as file:
                return file.readline()
        self.check_read(read)

    def test_text(self):
        def read(fd):
            with open(os.dup(fd)) as file:
                return file.readline().encode()
        self.check_read(read)

    def test_read_all(self):
        read, write = self.pipe()

        def read_all():
            with io.FileIO(read, closefd=False) as file:
                return file.readall()

        def release():
            os.write(write, b"a" * 1000)
            os.close(write)

        self.assertEqual(self.check_parks(read_all, release, count=1), [b"a" * 1000])

    def test_many_read_all(self):
        # Each gets some of it, or only the end.
        read, write = self.pipe()

        def read_all():
            with open(read, "rb", buffering=0, closefd=False) as file:
                return file.read()

        def release():
            os.write(write, b"x" * COUNT)
            os.close(write)

        self.assertEqual(b"".join(self.check_parks(read_all, release)), b"x" * COUNT)

    def check_many(self, read, write):
        """Many threads read a byte each from one pipe."""
        def release():
            for data in pieces:
                os.write(write, data)

        # Each write wakes all that wait; who gets nothing does not block its carrier.
        for pieces in [b"x"] * COUNT, [b"x" * COUNT]:
            self.assertEqual(self.check_parks(read, release), [b"x"] * COUNT)

    def test_many_on_one_pipe(self):
        read, write = self.pipe()
        self.check_many(lambda: os.read(read, 1), write)

    def test_many_readv(self):
        read, write = self.pipe()

        def read_byte():
            buffer = bytearray(1)
            self.assertEqual(os.readv(read, [buffer]), 1)
            return bytes(buffer)

        self.check_many(read_byte, write)

    def test_many_readinto(self):
        read, write = self.pipe()

        def read_byte():
            buffer = bytearray(1)
            with io.FileIO(read, closefd=False) as file:
                self.assertEqual(file.readinto(buffer), 1)
            return bytes(buffer)

        self.check_many(read_byte, write)

    def test_one_raw_reader(self):
        read, write = self.pipe()
        with io.FileIO(read, closefd=False) as file:
            self.check_many(lambda: file.read(1), write)

    def test_one_buffered_reader(self):
        # The others wait for its lock, which is held while it waits for the pipe.
        read, write = self.pipe()
        with open(read, "rb", closefd=False) as file:
            lines = self.check_parks(lambda: file.read(5),
                                     lambda: os.write(write, b"line\n" * COUNT))
        self.assertEqual(lines, [b"line\n"] * COUNT)

    def test_connection(self):
        pipes = [multiprocessing.Pipe(duplex=False) for _ in range(COUNT)]
        readers = Hands(reader for reader, _ in pipes)

        def receive():
            with readers() as reader:
                return reader.recv()

        def release():
            for _, writer in pipes:
                with writer:
                    writer.send("hello")

        self.assertEqual(self.check_parks(receive, release), ["hello"] * COUNT)

    def test_end_of_file(self):
        read, write = self.pipe()
        self.assertEqual(self.check_parks(lambda: os.read(read, 1), lambda: os.close(write)),
                         [b""] * COUNT)

    def test_input(self):
        read, write = self.pipe()
        with open(read, "r", closefd=False) as file, swap_attr(sys, "stdin", file):
            self.assertEqual(
                self.check_parks(input, lambda: os.write(write, b"some words\n"), count=1),
                ["some words"])

    def test_nothing_asked(self):
        read, write = self.pipe()
        self.assertEqual(self.call(os.read, read, 0), b"")
        self.assertEqual(self.call(os.write, write, b""), 0)
        self.assertEqual(self.call(os.readv, read, []), 0)

    def test_nonblocking(self):
        read, write = self.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        self.assertRaises(BlockingIOError, self.call, os.read, read, 1)
        self.assertRaises(BlockingIOError, self.call, os.readv, read, [bytearray(1)])
        with io.FileIO(read, closefd=False) as file:
            self.assertIsNone(self.call(file.read, 1))
            self.assertIsNone(self.call(file.readinto, bytearray(1)))
        written = self.call(os.write, write, b"x" * BIG)
        self.assertGreater(written, 0)
        self.assertLess(written, BIG)
        self.assertRaises(BlockingIOError, self.call, os.write, write, b"x")
        with io.FileIO(write, "w", closefd=False) as file:
            self.assertIsNone(self.call(file.write, b"x"))

    def test_errors(self):
        read, write = self.pipe()
        for function, args in [(os.read, (write, 1)), (os.write, (read, b"x")),
                               (os.read, (1_000_000, 1)), (os.write, (1_000_000, b"x")),
                               (os.readv, (write, [bytearray(1)])),
                               (os.writev, (read, [b"x"]))]:
            with self.subTest(function=function.__name__, args=args):
                with self.assertRaises(OSError) as caught:
                    self.call(function, *args)
                self.assertEqual(caught.exception.errno, errno.EBADF)
        directory = os.open(".", os.O_RDONLY)
        self.addCleanup(os.close, directory)
        self.assertRaises(IsADirectoryError, self.call, os.read, directory, 1)

    def test_socket(self):
        left, right = socket.socketpair()
        with left, right:
            self.assertEqual(
                self.check_parks(lambda: os.read(left.fileno(), 10),
                                 lambda: os.write(right.fileno(), b"abc"), count=1),
                [b"abc"])


class WriteTests(PipeTestCase):

    def drain(self, fd, size):
        got = bytearray()
        while len(got) < size:
            got += os.read(fd, 1 << 16)
        return got

    def check_write(self, write):
        pipes = [self.pipe() for _ in range(10)]
        ends = Hands(write for _, write in pipes)

        def release():
            for read, fd in pipes:
                self.assertTrue(os.get_blocking(fd))
                self.assertEqual(self.drain(read, BIG), b"x" * BIG)

        # A blocking write is complete.
        self.assertEqual(self.check_parks(lambda: write(ends()), release, count=len(pipes)),
                         [BIG] * len(pipes))

    def test_os_write(self):
        self.check_write(lambda fd: os.write(fd, b"x" * BIG))

    def test_writev(self):
        self.check_write(lambda fd: os.writev(fd, [b"x", b"x" * (BIG - 3), b"", b"xx"]))

    def test_fileio(self):
        def write(fd):
            with io.FileIO(fd, "w", closefd=False) as file:
                return file.write(b"x" * BIG)
        self.check_write(write)

    def check_many(self, write, fd, read):
        """Many threads write to one full pipe, and all of it arrives."""
        size = 65536
        total = self.fill(fd) + COUNT * size
        drained = []
        results = self.check_parks(lambda: write(b"y" * size),
                                   lambda: drained.append(self.call(self.drain, read, total)))
        self.assertEqual(results, [size] * COUNT)
        self.assertEqual(drained[0].count(b"y"), COUNT * size)

    def test_many_on_one_pipe(self):
        read, write = self.pipe()
        self.check_many(lambda data: os.write(write, data), write, read)

    def test_many_writev(self):
        read, write = self.pipe()
        self.check_many(lambda data: os.writev(write, [data[:1], data[1:]]), write, read)

    def test_one_buffered_writer(self):
        # As of readers: the others wait for its lock.
        read, fd = self.pipe()
        with open(fd, "wb", closefd=False) as file:
            def write(data):
                size = file.write(data)
                file.flush()
                return size

            self.check_many(write, fd, read)

    def test_logging(self):
        # One waits for the pipe, and the others for the handler's lock.
        read, fd = self.pipe()
        total = self.fill(fd) + COUNT * len("message\n")
        drained = []
        with open(fd, "w", closefd=False) as file:
            logger = logging.Logger("test")
            logger.addHandler(logging.StreamHandler(file))
            self.check_parks(lambda: logger.error("message"),
                             lambda: drained.append(self.call(self.drain, read, total)))
        self.assertEqual(drained[0].count(b"message\n"), COUNT)

    def test_socket(self):
        left, right = socket.socketpair()
        with left, right:
            results = self.call_all([lambda: os.write(left.fileno(), b"x" * BIG),
                                     lambda: self.drain(right.fileno(), BIG)])
        self.assertEqual(results, [BIG, b"x" * BIG])

    def test_content(self):
        data = os.urandom(BIG)
        read, write = self.pipe()
        parts = [data[:1], data[1:70_000], data[70_000:]]
        results = self.call_all([lambda: os.writev(write, parts),
                                 lambda: self.drain(read, BIG)])
        self.assertEqual(results, [BIG, data])

    def test_small_writes_stay_whole(self):
        read, write = self.pipe()
        size, rounds = select.PIPE_BUF, 50

        def send(byte):
            return sum(os.write(write, bytes([byte]) * size) for _ in range(rounds))

        results = self.call_all([lambda b=b: send(b) for b in range(10)]
                                + [lambda: self.drain(read, 10 * rounds * size)])
        got = results.pop()
        self.assertEqual(results, [rounds * size] * 10)
        for start in range(0, len(got), size):
            self.assertEqual(len(set(got[start:start + size])), 1)

    def test_broken_pipe(self):
        read, write = self.pipe()

        def send():
            try:
                return os.write(write, b"x" * BIG)
            except BrokenPipeError:
                return 0

        def release():
            os.read(read, 1000)
            os.close(read)

        [sent] = self.check_parks(send, release, count=1)
        self.assertLess(sent, BIG)
        self.assertRaises(BrokenPipeError, self.call, os.write, write, b"x")

    def test_broken_pipe_of_many(self):
        read, write = self.pipe()
        self.fill(write)

        def send():
            with self.assertRaises(BrokenPipeError):
                os.write(write, b"x" * BIG)

        self.check_parks(send, lambda: os.close(read))

    def test_reader_and_writer(self):
        # Each pair shares nothing but a pipe; more pairs than carriers.
        def pair():
            read, write = os.pipe()
            with open(write, "wb") as output, open(read, "rb") as source:
                def produce():
                    with output:
                        for number in range(100):
                            output.write(b"%d\n" % number * 100)
                            output.flush()

                thread = spawn(produce)
                lines = source.readlines()
                thread.join()
            return lines

        lines = [b"%d\n" % number for number in range(100) for _ in range(100)]
        for found in self.call_all([pair] * 20):
            self.assertEqual(found, lines)


class CloseTests(PipeTestCase):

    def test_close_read(self):
        read, _ = self.pipe()
        self.check_close(lambda: os.read(read, 1), lambda: os.close(read))

    def test_close_readv(self):
        read, _ = self.pipe()
        self.check_close(lambda: os.readv(read, [bytearray(1)]), lambda: os.close(read))

    def test_close_write(self):
        _, write = self.pipe()
        self.fill(write)
        self.check_close(lambda: os.write(write, b"x"), lambda: os.close(write))

    def test_close_file(self):
        read, _ = self.pipe()
        file = io.FileIO(os.dup(read))
        self.check_close(lambda: file.read(1), file.close)

    def test_close_connection(self):
        reader, writer = multiprocessing.Pipe(duplex=False)
        with writer:
            self.check_close(reader.recv, reader.close, count=1)

    def test_close_before(self):
        read, _ = self.pipe()

        def read_closed():
            os.close(read)
            os.read(read, 1)

        with self.assertRaises(OSError) as caught:
            self.call(read_closed)
        self.assertEqual(caught.exception.errno, errno.EBADF)


if __name__ == "__main__":
    unittest.main()

"""os.read, os.write and files on pipes, FIFOs, terminals and eventfds park."""

import contextlib
import os
import pty
import unittest
from test.support import os_helper

from test.test_virtual_threading.util import COUNT, TestCase
from virtual_threading import spawn


class PipeTests(TestCase):

    def setUp(self):
        super().setUp()
        self.read, self.write = os.pipe()
        self.addCleanup(self.close, self.read)
        self.addCleanup(self.close, self.write)

    def close(self, descriptor):
        with contextlib.suppress(OSError):
            os.close(descriptor)

    def release(self):
        os.write(self.write, b"x" * COUNT)

    def test_read(self):
        results = self.check_parks(lambda: os.read(self.read, 1), self.release)
        self.assertEqual(results, [b"x"] * COUNT)

    def test_readv(self):
        def block():
            buffer = bytearray(1)
            return os.readv(self.read, [buffer]), bytes(buffer)

        self.assertEqual(self.check_parks(block, self.release), [(1, b"x")] * COUNT)

    def test_read_until_the_end(self):
        results = self.check_parks(lambda: os.read(self.read, 10),
                                   lambda: os.close(self.write))
        self.assertEqual(results, [b""] * COUNT)

    def test_raw_file(self):
        with open(self.read, "rb", buffering=0, closefd=False) as file:
            results = self.check_parks(lambda: file.read(1), self.release)
        self.assertEqual(results, [b"x"] * COUNT)

    def test_readinto(self):
        def block():
            with open(self.read, "rb", buffering=0, closefd=False) as file:
                buffer = bytearray(1)
                return file.readinto(buffer)

        self.assertEqual(self.check_parks(block, self.release), [1] * COUNT)

    def test_readall(self):
        def block():
            with open(self.read, "rb", buffering=0, closefd=False) as file:
                return file.read()

        def release():
            self.release()
            os.close(self.write)

        self.assertEqual(b"".join(self.check_parks(block, release)), b"x" * COUNT)

    def test_buffered_and_text_files(self):
        pipes = [os.pipe() for _ in range(COUNT)]
        readers = [pipe[0] for pipe in pipes]

        def block():
            with open(readers.pop()) as file:
                return file.readline()

        def release():
            for _, write in pipes:
                with open(write, "w") as file:
                    file.write("line\n")

        self.assertEqual(set(self.check_parks(block, release)), {"line\n"})

    def fill(self, descriptor):
        os.set_blocking(descriptor, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(descriptor, b"x" * 4096)
        os.set_blocking(descriptor, True)

    def check_write(self, write):
        self.fill(self.write)
        size = 65536

        def drain():
            left = COUNT * size
            while left > 0:
                left -= len(os.read(self.read, size))

        drains = []
        results = self.check_parks(lambda: write(b"y" * size),
                                   lambda: drains.append(spawn(drain)))
        # What was in the pipe before was read, too; some may be left in it.
        self.join(drains)
        return results

    def test_write(self):
        def write(data):
            view = memoryview(data)
            while view:
                view = view[os.write(self.write, view):]

        self.check_write(write)

    def test_writev(self):
        def write(data):
            view = memoryview(data)
            while view:
                view = view[os.writev(self.write, [view]):]

        self.check_write(write)

    def test_buffered_write(self):
        with open(self.write, "wb", closefd=False) as file:
            self.check_write(lambda data: file.write(data))
            # Room for what is left in the buffer.
            os.set_blocking(self.read, False)
            with contextlib.suppress(BlockingIOError):
                while os.read(self.read, 1 << 20):
                    pass

    def test_broken_pipe(self):
        self.fill(self.write)

        def block():
            with self.assertRaises(BrokenPipeError):
                while True:
                    os.write(self.write, b"y" * 65536)

        self.check_parks(block, lambda: os.close(self.read))

    def test_non_blocking(self):
        os.set_blocking(self.read, False)
        self.assertRaises(BlockingIOError, self.call, os.read, self.read, 1)

    def test_closed_descriptor(self):
        os.close(self.read)
        self.assertRaises(OSError, self.call, os.read, self.read, 1)

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
                lines = len(source.readlines())
                thread.join()
            return lines

        self.assertEqual(self.call_all([pair] * 20), [10_000] * 20)


class OtherFileTests(TestCase):

    def test_fifo(self):
        with os_helper.temp_dir() as directory:
            path = os.path.join(directory, "fifo")
            os.mkfifo(path)
            descriptor = os.open(path, os.O_RDWR)
            try:
                results = self.check_parks(lambda: os.read(descriptor, 1),
                                           lambda: os.write(descriptor, b"x" * COUNT))
            finally:
                os.close(descriptor)
        self.assertEqual(results, [b"x"] * COUNT)

    @unittest.skipUnless(hasattr(os, 'eventfd'), "needs eventfd")
    def test_eventfd(self):
        descriptor = os.eventfd(0, os.EFD_SEMAPHORE)
        try:
            results = self.check_parks(lambda: os.eventfd_read(descriptor),
                                       lambda: os.eventfd_write(descriptor, COUNT))
        finally:
            os.close(descriptor)
        self.assertEqual(results, [1] * COUNT)

    def test_terminal(self):
        master, slave = pty.openpty()
        try:
            results = self.check_parks(lambda: os.read(slave, 100),
                                       lambda: os.write(master, b"line\n" * COUNT))
        finally:
            os.close(master)
            os.close(slave)
        self.assertEqual(b"".join(results), b"line\n" * COUNT)

    def test_dev_null_and_zero(self):
        def run():
            with open(os.devnull, "r+b", buffering=0) as file:
                self.assertEqual(file.read(1), b"")
                self.assertEqual(file.write(b"x"), 1)
            with open("/dev/zero", "rb") as file:
                return file.read(100)

        self.assertEqual(self.call_all([run] * 20), [bytes(100)] * 20)


if __name__ == "__main__":
    unittest.main()

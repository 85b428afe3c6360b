"""Waiting for child processes parks."""

import errno
import os
import signal
import subprocess
import sys
import unittest

from test.test_virtual_threading.io_util import Hands
from test.test_virtual_threading.util import TIMEOUT, TestCase

COUNT = 10              # children are dear


class ChildTestCase(TestCase):

    def child(self):
        """A process that ends with status 7 when its standard input is closed."""
        process = subprocess.Popen(["/bin/sh", "-c", "read line; exit 7"],
                                   stdin=subprocess.PIPE)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        process.stdin.close()
        process.wait()

    def check_wait(self, wait):
        """wait(process) parks until the child ends; its results."""
        children = [self.child() for _ in range(COUNT)]
        hands = Hands(children)

        def release():
            for process in children:
                process.stdin.close()

        results = self.check_parks(lambda: wait(hands()), release, count=COUNT)
        return results, children


class WaitTests(ChildTestCase):

    def test_popen_wait(self):
        results, _ = self.check_wait(lambda process: process.wait())
        self.assertEqual(results, [7] * COUNT)

    def test_popen_wait_with_timeout(self):
        results, _ = self.check_wait(lambda process: process.wait(TIMEOUT))
        self.assertEqual(results, [7] * COUNT)

    def test_waitpid(self):
        results, children = self.check_wait(lambda process: os.waitpid(process.pid, 0))
        self.assertEqual({pid for pid, _ in results}, {child.pid for child in children})
        self.assertEqual({os.waitstatus_to_exitcode(status) for _, status in results}, {7})

    def test_wait4(self):
        results, _ = self.check_wait(lambda process: os.wait4(process.pid, 0))
        self.assertEqual({os.waitstatus_to_exitcode(result[1]) for result in results}, {7})
        self.assertGreater(min(usage.ru_maxrss for _, _, usage in results), 0)

    def test_waitid(self):
        results, children = self.check_wait(
            lambda process: os.waitid(os.P_PID, process.pid, os.WEXITED))
        self.assertEqual({result.si_pid for result in results},
                         {child.pid for child in children})
        self.assertEqual({result.si_status for result in results}, {7})

    def test_waitid_leaves_it(self):
        results, children = self.check_wait(
            lambda process: os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT))
        self.assertEqual({result.si_status for result in results}, {7})
        self.assertEqual({os.waitpid(child.pid, 0)[1] >> 8 for child in children}, {7})

    @unittest.skipUnless(hasattr(os, "pidfd_open") and hasattr(os, "P_PIDFD"),
                         "needs pidfds")
    def test_waitid_pidfd(self):
        def wait(process):
            fd = os.pidfd_open(process.pid)
            try:
                return os.waitid(os.P_PIDFD, fd, os.WEXITED)
            finally:
                os.close(fd)
        results, _ = self.check_wait(wait)
        self.assertEqual({result.si_status for result in results}, {7})

    def test_with_timeout(self):
        process = self.child()
        self.assertRaises(subprocess.TimeoutExpired, self.call, process.wait, 0.05)

        def wait():
            with self.assertRaises(subprocess.TimeoutExpired):
                process.wait(0.01)

        self.call_all([wait] * 5)
        process.stdin.close()
        self.assertEqual(self.call(process.wait, 3600), 7)

    def test_not_a_child(self):
        for pid in (os.getpid(), 1):
            with self.subTest(pid=pid):
                self.assertRaises(ChildProcessError, self.call, os.waitpid, pid, 0)
                self.assertRaises(ChildProcessError, self.call, os.wait4, pid, 0)
                self.assertRaises(ChildProcessError, self.call, os.waitid, os.P_PID, pid,
                                  os.WEXITED)

    def test_no_hang(self):
        process = self.child()
        self.assertEqual(self.call(os.waitpid, process.pid, os.WNOHANG), (0, 0))
        self.assertIsNone(self.call(os.waitid, os.P_PID, process.pid,
                                    os.WEXITED | os.WNOHANG))

    def test_ended_before(self):
        process = self.child()
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        pid, status = self.call(os.waitpid, process.pid, 0)
        self.assertEqual((pid, os.waitstatus_to_exitcode(status)), (process.pid, 7))

    def test_killed(self):
        process = self.child()

        def wait():
            return os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])

        self.assertEqual(self.check_parks(wait, process.kill, count=1), [-signal.SIGKILL])

    def test_popen_killed(self):
        process = self.child()
        self.assertEqual(self.check_parks(process.wait, process.kill, count=1),
                         [-signal.SIGKILL])

    def test_two_wait_for_one(self):
        process = self.child()

        def wait():
            try:
                return os.waitpid(process.pid, 0)[1] >> 8
            except ChildProcessError as exc:
                return -exc.errno

        self.assertEqual(sorted(self.check_parks(wait, process.stdin.close, count=5)),
                         [-errno.ECHILD] * 4 + [7])

    def test_stopped(self):
        # Not the end of a child: waits as a platform thread does.
        process = self.child()
        os.kill(process.pid, signal.SIGSTOP)
        pid, status = self.call(os.waitpid, process.pid, os.WUNTRACED)
        self.assertEqual(pid, process.pid)
        self.assertTrue(os.WIFSTOPPED(status))
        os.kill(process.pid, signal.SIGCONT)


class SubprocessTests(ChildTestCase):

    # Programs have paths: os.get_exec_path(), which looks for the others, sets the
    # process's warning filters for a moment, and threads that do so at once may leave
    # them changed, on platform threads too.

    def test_run(self):
        def run(number):
            done = subprocess.run(["/bin/sh", "-c", f"echo {number}; exit {number}"],
                                  stdout=subprocess.PIPE, text=True)
            return done.stdout, done.returncode

        self.assertEqual(self.call_all([lambda n=n: run(n) for n in range(40)]),
                         [(f"{n}\n", n) for n in range(40)])

    def test_communicate(self):
        def talk(data):
            with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE) as process:
                return process.communicate(data)[0]

        sent = [b"%d" % number * 300_000 for number in range(10)]
        self.assertEqual(self.call_all([lambda data=data: talk(data) for data in sent]), sent)

    def test_communicate_parks(self):
        def talk():
            read = os.dup(ends[0])
            with subprocess.Popen(["/bin/cat"], stdin=read, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE) as process:
                os.close(read)
                return process.communicate()

        ends = os.pipe()
        self.addCleanup(os.close, ends[0])
        results = self.check_parks(talk, lambda: os.close(ends[1]), count=5)
        self.assertEqual(results, [(b"", b"")] * 5)

    def test_timeout(self):
        def run():
            with self.assertRaises(subprocess.TimeoutExpired):
                subprocess.run(["/bin/sleep", "3600"], timeout=0.05)
            return True
        self.assertTrue(self.call(run))

    def test_communicate_timeout(self):
        def run():
            with self.assertRaises(subprocess.TimeoutExpired):
                subprocess.run(["/bin/sleep", "3600"], timeout=0.1, stdout=subprocess.PIPE)

        self.call_all([run] * 5)

    def test_error(self):
        self.assertRaises(FileNotFoundError, self.call, subprocess.run, ["/nonexistent"])

    def test_python(self):
        def run():
            return subprocess.check_output([sys.executable, "-S", "-c", "print(6 * 7)"])
        self.assertEqual(self.call_all([run] * 3), [b"42\n"] * 3)


if __name__ == "__main__":
    unittest.main()

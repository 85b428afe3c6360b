"""Carriers block signals; nothing that virtual threads start or send has to know it."""

import os
import signal
import subprocess
import unittest
from test.support.script_helper import assert_python_ok

from test.test_virtual_threading.util import TestCase

COUNT = 10              # children are dear


class SignalTests(TestCase):

    def test_terminate(self):
        # A child has no signals blocked, whatever OS thread has made it.
        def popen():
            with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as process:
                process.terminate()
            return process.returncode

        def end(pid):
            os.kill(pid, signal.SIGTERM)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        def posix_spawn():
            return end(os.posix_spawn("/bin/sleep", ["sleep", "1000"], os.environ))

        def fork():
            pid = os.fork()
            if pid == 0:
                while True:
                    signal.pause()
            return end(pid)

        for run in popen, posix_spawn, fork:
            with self.subTest(run=run.__name__):
                self.assertEqual(self.call_all([run] * COUNT),
                                 [-signal.SIGTERM] * COUNT)

    def test_raise_signal(self):
        seen = self.make_event()
        old = signal.signal(signal.SIGUSR1, lambda *args: seen.set())
        self.addCleanup(signal.signal, signal.SIGUSR1, old)
        self.call(signal.raise_signal, signal.SIGUSR1)
        self.wait_for(seen, "the signal's handler")


class SignalMaskTests(unittest.TestCase):
    """What a virtual thread starts has the mask of the thread that started the first one."""

    PRELUDE = """if True:
            import os, re, signal, threading, time, virtual_threading
            USR1, USR2 = signal.SIGUSR1, signal.SIGUSR2
            SHOW = "/bin/cat", ["cat", "/proc/self/status"]

            def mask():
                return signal.pthread_sigmask(signal.SIG_BLOCK, ())

            signal.pthread_sigmask(signal.SIG_SETMASK, {USR1})
    """

    def run_in_thread(self, code):
        """What the code shows in a virtual thread: masks, and other lines that it prints."""
        body = "\n".join("    " + line for line in code.splitlines())
        script = (f"{self.PRELUDE}\n            def run():\n{body}\n"
                  "            virtual_threading.spawn(run).join()\n")
        # Threads and fork(): a warning, from code in __main__.
        rc, out, err = assert_python_ok("-W", "ignore::DeprecationWarning", "-c", script)
        self.assertEqual(err, b"")
        return [line.removeprefix("SigBlk:\t") for line in out.decode().splitlines()
                if line.startswith("SigBlk:") or ":" not in line]

    @staticmethod
    def blocked(*signals):
        return f"{sum(1 << (number - 1) for number in signals):016x}"

    def test_system(self):
        # Shells may set a mask of their own, so the OS thread's is looked at, which the
        # shell inherits.  system(3) itself adds SIGCHLD meanwhile.
        self.assertEqual(self.run_in_thread("""
            def look():
                for _ in range(10_000):
                    with open(f"/proc/self/task/{tid}/status") as file:
                        found = re.search("SigBlk:(.*)", file.read())[1]
                    if int(found, 16) | 1 << signal.SIGCHLD - 1 == expected:
                        print("seen")
                        break
                    time.sleep(0.001)
                os.close(write)

            expected = 1 << USR1 - 1 | 1 << signal.SIGCHLD - 1
            read, write = os.pipe()
            with virtual_threading.pin():
                tid = threading.get_native_id()
                before = mask()
                thread = threading.Thread(target=look)
                thread.start()
                os.system(f"cat /proc/{os.getpid()}/fd/{read}")
                thread.join()
                print(len(before) > 10 and mask() == before)
            """), ["seen", "True"])

    def test_exec(self):
        for call in ('os.execv(*SHOW)', 'os.execve(*SHOW, os.environ)',
                     'os.execve(os.open(SHOW[0], 0), SHOW[1], os.environ)'):
            with self.subTest(call):
                self.assertEqual(self.run_in_thread(f"""
            {call}
            """), [self.blocked(signal.SIGUSR1)])

    def test_exec_fails(self):
        self.assertEqual(self.run_in_thread("""
            with virtual_threading.pin():
                before = mask()
                for call in ((os.execv, "/nonexistent", ["x"]),
                             (os.execve, "/nonexistent", ["x"], os.environ)):
                    try:
                        call[0](*call[1:])
                    except FileNotFoundError:
                        print(mask() == before)
            """), ["True", "True"])

    def test_platform_thread(self):
        self.assertEqual(self.run_in_thread("""
            thread = threading.Thread(target=lambda: print(mask() == {USR1}))
            thread.start()
            thread.join()
            """), ["True"])

    def test_forked_child(self):
        # It has the mask from the beginning, and what it does to it stays.
        self.assertEqual(self.run_in_thread("""
            pid = os.fork()
            if pid == 0:
                assert mask() == {USR1}
                signal.pthread_sigmask(signal.SIG_BLOCK, {USR2})
                os.waitpid(os.posix_spawn(*SHOW, os.environ), 0)
                os.execv(*SHOW)
            os.waitpid(pid, 0)
            """), [self.blocked(signal.SIGUSR1, signal.SIGUSR2)] * 2)

    def test_subinterpreter(self):
        self.assertEqual(self.run_in_thread("""
            import _interpreters
            interp = _interpreters.create("legacy")
            code = f"import os; os.waitpid(os.posix_spawn(*{SHOW}, os.environ), 0)"
            error = _interpreters.exec(interp, code)
            assert error is None, error
            _interpreters.destroy(interp)
            """), [self.blocked(signal.SIGUSR1)])


if __name__ == "__main__":
    unittest.main()

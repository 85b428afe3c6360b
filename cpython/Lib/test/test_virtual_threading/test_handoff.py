"""Calls that block the OS thread: the carrier's slot is handed to another one."""

import errno
import fcntl
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from test import support
from test.support import import_helper, os_helper, requires_subprocess
from test.support.script_helper import assert_python_ok
from test.test_virtual_threading import foreign
from test.test_virtual_threading.util import LONG, TIMEOUT, TestCase
from virtual_threading import spawn, stats

ctypes = import_helper.import_module('ctypes')


class HandoffTests(TestCase):

    @staticmethod
    def count():
        return stats()['parallelism'] + 3

    def child(self, *command, **options):
        """A process that ends when its standard input is closed."""
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 **options)
        self.addCleanup(child.communicate)
        return child

    def check_hands_off(self, block, release):
        """More threads than slots are in block(), another one runs, and a signal's handler.

        block() is called with a function that it calls right before it blocks.
        """
        count = self.count()
        handled = self.make_event()
        before = signal.signal(signal.SIGUSR1, lambda *args: handled.set())
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        entered = threading.Semaphore(0)
        results = []
        threads = [spawn(lambda: results.append(block(entered.release)))
                   for _ in range(count)]
        try:
            for _ in range(count):
                if not entered.acquire(timeout=60):
                    self.give_up("blocked threads keep others from starting")
            # These run after all of the others went into their calls.
            self.assertEqual(self.call_all([lambda: 1] * 10), [1] * 10)
            os.kill(os.getpid(), signal.SIGUSR1)
            self.wait_for(handled, "the signal's handler")
            self.assertEqual(results, [])
        finally:
            release()
        self.join(threads)
        return results

    def test_flock(self):
        with tempfile.NamedTemporaryFile() as file:
            fcntl.flock(file, fcntl.LOCK_EX)

            def block(entering):
                with open(file.name) as other:
                    entering()
                    fcntl.flock(other, fcntl.LOCK_EX)

            self.check_hands_off(block, lambda: fcntl.flock(file, fcntl.LOCK_UN))

    def test_lockf(self):
        # The lock is a process's: another one has it.
        for lock in ((lambda file: fcntl.lockf(file, fcntl.LOCK_EX)),
                     (lambda file: os.lockf(file.fileno(), os.F_LOCK, 0))):
            with tempfile.NamedTemporaryFile() as file:
                owner = self.child(sys.executable, "-c", f'''if True:
                    import fcntl, sys
                    with open({file.name!r}, "r+") as file:
                        fcntl.lockf(file, fcntl.LOCK_EX)
                        print("locked", flush=True)
                        sys.stdin.read()
                    ''')
                self.assertEqual(owner.stdout.readline(), b"locked\n")

                def block(entering):
                    entering()
                    lock(file)

                self.check_hands_off(block, owner.stdin.close)

    def test_lock_of_processes(self):
        try:
            lock = multiprocessing.get_context("fork").Lock()
        except (ImportError, OSError) as exc:
            self.skipTest(str(exc))
        lock.acquire()

        def block(entering):
            entering()
            with lock:
                pass

        self.check_hands_off(block, lock.release)

    def test_any_child(self):
        # Any child of a process group, and any at all.
        for wait in ((lambda group: os.waitpid(-group, 0)), (lambda group: os.wait()),
                     (lambda group: os.wait3(0)), (lambda group: os.waitpid(-1, 0))):
            children = []
            for _ in range(self.count()):
                group = children[0].pid if children else 0
                children.append(self.child("/bin/cat", process_group=group))

            def block(entering):
                entering()
                return wait(children[0].pid)[0]

            def release():
                for child in children:
                    child.stdin.close()

            self.assertEqual(sorted(self.check_hands_off(block, release)),
                             sorted(child.pid for child in children))

    def test_sigwait(self):
        # Of the real-time signals, as these queue up: one ends one wait.
        number = signal.SIGRTMIN
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        self.addCleanup(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        # And drops those that came and were not waited for.
        self.addCleanup(signal.signal, number, signal.SIG_IGN)

        for wait in ((lambda: signal.sigwait({number})),
                     (lambda: signal.sigwaitinfo({number}).si_signo),
                     (lambda: signal.sigtimedwait({number}, LONG).si_signo)):

            def block(entering):
                entering()
                return wait()

            def release():
                for _ in range(self.count()):
                    os.kill(os.getpid(), number)

            self.assertEqual(set(self.check_hands_off(block, release)), {number})

    def test_sqlite_busy(self):
        sqlite3 = import_helper.import_module('sqlite3')
        with os_helper.temp_dir() as directory:
            path = os.path.join(directory, "base")

            def begin():
                base = sqlite3.connect(path, timeout=LONG, isolation_level=None)
                base.execute("BEGIN EXCLUSIVE")
                return base

            owner = begin()

            def block(entering):
                entering()
                begin().close()

            self.check_hands_off(block, owner.close)

    def test_fifo_open(self):
        with os_helper.temp_dir() as directory:
            path = os.path.join(directory, "fifo")
            os.mkfifo(path)

            def block(entering):
                entering()
                os.close(os.open(path, os.O_RDONLY))

            # Of readers that come later than the writer opens, none waits.
            writers = []
            self.check_hands_off(
                block, lambda: writers.append(os.open(path, os.O_RDWR)))
            os.close(writers[0])

    def test_foreign_call(self):
        # ctypes gives the GIL up, and read() of the C library waits in the kernel.
        libc = ctypes.CDLL(None)
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)

        def block(entering):
            buffer = ctypes.create_string_buffer(1)
            entering()
            return libc.read(read, buffer, 1)

        results = self.check_hands_off(block, lambda: os.write(write, b"x" * 100))
        self.assertEqual(set(results), {1})

    def test_system(self):
        read, write = os.pipe()
        os.set_inheritable(read, True)

        def block(entering):
            entering()
            return os.system(f"read line <&{read}")

        def release():
            os.write(write, b"\n" * 100)

        self.assertEqual(set(self.check_hands_off(block, release)), {0})
        os.close(read)
        os.close(write)

    def test_handoffs_are_counted(self):
        before = stats()['handoffs']
        self.test_foreign_call()
        self.assertGreater(stats()['handoffs'], before)

    def test_name_resolution(self):
        # It does not block here; that it works from virtual threads is the question.
        def resolve():
            return socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)

        self.assertTrue(all(self.call_all([resolve] * 20)))

    def test_regular_files(self):
        with os_helper.temp_dir() as directory:
            def write_and_read(number):
                path = os.path.join(directory, str(number))
                with open(path, "w") as file:
                    file.write("x" * 10_000)
                    file.flush()
                    os.fsync(file.fileno())
                with open(path) as file:
                    return len(file.read())

            results = self.call_all([lambda n=n: write_and_read(n) for n in range(40)])
        self.assertEqual(results, [10_000] * 40)


class ErrnoTests(TestCase):
    # Who comes back from a system call attaches, and then reads errno.  Here the attach has to
    # wait: for the lock of the list that the thread was extending, as somebody has it meanwhile.

    PINNED = 'finalizer or runtime section'

    def fail_and_wait(self):
        """(errno that Python saw of a call that failed, state of its thread in the attach)."""
        contended, errors, states = [], [], []
        entered, go = self.make_event(), self.make_event()
        source, feed = os.pipe()
        reader, target = os.pipe()

        def fail():
            entered.set()
            try:
                os.splice(source, target, 1)    # waits for a byte, and finds no reader
            except OSError as exc:
                errors.append(exc.errno)
            yield

        def hold():
            go.set()
            # Nothing here detaches, so the lock is kept.
            for _ in support.busy_retry(TIMEOUT):
                state = thread.state
                if state in ('parked', 'pinned', 'terminated'):
                    states.append(state)
                    break
            yield

        def let_fail():
            go.wait()
            os.close(reader)
            os.write(feed, b"x")

        helper = spawn(let_fail)
        thread = spawn(lambda: contended.extend(fail()))
        self.wait_for(entered)
        contended.extend(hold())                # begins when fail() has detached
        self.join([thread, helper])
        for fd in source, feed, target:
            os.close(fd)
        return errors[0], states[0]

    def test_attach_that_waits(self):
        for _ in range(20):
            before = stats()['pins'][self.PINNED]
            number, state = self.fail_and_wait()
            self.assertEqual(number, errno.EPIPE)
            if state == 'pinned':
                break
            # It was preempted before the call, or the lock was lost for a moment.
        self.assertEqual(state, 'pinned')
        self.assertGreater(stats()['pins'][self.PINNED], before)

    @requires_subprocess()
    def test_what_waits_overwrites_it(self):
        # A function that succeeds may do that to errno.  Here those do by which the attach waits.
        if support.check_sanitizer(address=True, thread=True):
            self.skipTest("the sanitizer's library has to be the first one")
        builder = foreign.Builder()
        self.addCleanup(builder.close)
        library = builder.build('vt_errno', source=foreign.OVERWRITES_ERRNO)
        assert_python_ok('-c', f"""if True:
            import ctypes, unittest
            from test.test_virtual_threading.test_handoff import ErrnoTests
            result = unittest.TestResult()
            ErrnoTests('test_attach_that_waits').run(result)
            assert result.wasSuccessful(), result.failures + result.errors
            library = ctypes.CDLL({library!r})
            assert ctypes.c_int.in_dll(library, 'overwritten').value > 0
            """, LD_PRELOAD=library)


if __name__ == "__main__":
    unittest.main()

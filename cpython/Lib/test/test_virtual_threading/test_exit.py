"""The end of a program that has virtual threads, and of the interpreter."""

import signal
import subprocess
import unittest
from test.support.script_helper import (assert_python_failure, assert_python_ok,
                                        spawn_python)

from test.test_virtual_threading.util import TIMEOUT

PRELUDE = """if True:
            import atexit, os, sys, threading, time
            from virtual_threading import Thread, spawn, yield_now
"""


class ExitTests(unittest.TestCase):

    def run_ok(self, code, *args):
        rc, out, err = assert_python_ok(*args, '-c', PRELUDE + code)
        self.assertEqual(err, b"")
        return out.decode().splitlines()

    def run_failing(self, code):
        rc, out, err = assert_python_failure('-c', PRELUDE + code)
        return rc, out.decode().splitlines(), err.decode()

    def test_joined_at_exit(self):
        self.assertEqual(self.run_ok("""
            def run(event):
                event.wait()
                for _ in range(100):
                    yield_now()
                print("ran\\n", end="")       # in one write

            event = threading.Event()
            for _ in range(20):
                spawn(run, event)
            threading.Timer(0.1, event.set).start()
            print("main ends")
            """), ["main ends"] + ["ran"] * 20)

    def test_threads_started_at_exit_are_joined(self):
        self.assertEqual(self.run_ok("""
            def run(depth):
                time.sleep(0.01)
                if depth:
                    spawn(run, depth - 1)
                else:
                    print("last")

            spawn(run, 10)
            """), ["last"])

    def test_daemons_are_not_joined(self):
        # Parked, runnable, sleeping, computing and blocked in the kernel.
        self.assertEqual(self.run_ok("""
            def compute():
                while True:
                    pass

            def spin():
                while True:
                    yield_now()

            read, write = os.pipe()
            started = [Thread(target=func, args=args, daemon=True)
                       for func, args in ((threading.Event().wait, ()),
                                          (time.sleep, (1000,)), (compute, ()),
                                          (spin, ()), (os.read, (read, 1)))
                       for _ in range(10)]
            for thread in started:
                thread.start()
            print("end", flush=True)
            """), ["end"])

    def test_many_daemons(self):
        self.assertEqual(self.run_ok("""
            event = threading.Event()
            for _ in range(2000):
                Thread(target=event.wait, daemon=True).start()
            print("end")
            """), ["end"])

    def test_daemon_prints_while_exiting(self):
        out = self.run_ok("""
            def run():
                while True:
                    print("daemon", flush=True)

            for _ in range(5):
                Thread(target=run, daemon=True).start()
            time.sleep(0.05)
            """)
        # Their lines may be interleaved.
        self.assertLessEqual(set("".join(out)), set("daemon"))

    def test_exit_code(self):
        rc, out, err = self.run_failing("""
            spawn(time.sleep, 0.01)
            sys.exit(7)
            """)
        self.assertEqual((rc, out, err), (7, [], ""))

    def test_exit_in_a_thread_ends_the_thread(self):
        self.assertEqual(self.run_ok("""
            thread = spawn(sys.exit, 7)
            thread.join()
            print("goes on")
            """), ["goes on"])

    def test_os_exit_in_a_thread(self):
        rc, out, err = self.run_failing("""
            spawn(os._exit, 8).join()
            """)
        self.assertEqual((rc, err), (8, ""))

    def test_uncaught_exception(self):
        rc, out, err = assert_python_ok('-c', PRELUDE + """
            def fail():
                raise ValueError("what went wrong")

            spawn(fail).join()
            print("goes on")
            """)
        self.assertEqual(out.split(), [b"goes", b"on"])
        self.assertIn(b"Exception in thread Thread-1 (fail):\nTraceback", err)
        self.assertTrue(err.rstrip().endswith(b"ValueError: what went wrong"))

    def test_main_fails(self):
        rc, out, err = self.run_failing("""
            def run():
                time.sleep(0.05)
                print("ran")

            spawn(run)
            raise ValueError("of main")
            """)
        self.assertEqual((rc, out), (1, ["ran"]))
        self.assertIn("ValueError: of main", err)

    def test_atexit(self):
        # Its functions run after the threads have been joined.
        self.assertEqual(self.run_ok("""
            atexit.register(print, "atexit")
            def run():
                time.sleep(0.05)
                print("ran")
            spawn(run)
            """), ["ran", "atexit"])

    def test_start_in_atexit(self):
        rc, out, err = assert_python_ok('-c', PRELUDE + """
            @atexit.register
            def start():
                try:
                    spawn(print, "ran")
                except RuntimeError as exc:
                    print(exc)
            """)
        self.assertRegex(out, rb"(?i)can't (create|start) new thread")

    def test_finalizers_run(self):
        self.assertEqual(self.run_ok("""
            class Finalized:
                def __del__(self):
                    print("finalized")

            event = threading.Event()

            def hold():
                obj = Finalized()
                event.wait()

            spawn(hold)
            threading.Timer(0.05, event.set).start()
            """), ["finalized"])

    def test_no_thread_at_all(self):
        self.assertEqual(self.run_ok("""
            Thread(target=print)        # never started
            print("end")
            """), ["end"])

    def test_standard_streams_are_flushed(self):
        self.assertEqual(self.run_ok("""
            for number in range(100):
                spawn(print, number, end=" ").join()
            """), [" ".join(map(str, range(100))) + " "])

    def check_fatal(self, statement):
        # The dump begins with threads that run, and names some of those that wait; carriers
        # that run nothing are not in it.
        rc, out, err = self.run_failing(f"""
            import _testcapi, ctypes, faulthandler

            def crash():
                {statement}

            def waits(event):
                event.wait()

            event = threading.Event()
            faulthandler.enable()
            threads = [spawn(waits, event) for _ in range(150)]
            while any(thread.state != "parked" for thread in threads):
                time.sleep(0.01)
            spawn(crash).join()
            """)
        self.assertIn("Fatal Python error: ", err)
        self.assertNotIn("no Python frame", err)
        running, waiting = err.split("\nVirtual threads that wait:\n")
        self.assertRegex(running, r"(?m)^Current thread .*:\n  File .* in crash$")
        self.assertIn("in <module>", running)
        self.assertNotIn("in waits", running)
        self.assertEqual(waiting.count("in waits"), 100)
        self.assertIn("\n...\n", waiting)
        return rc

    def test_faulthandler(self):
        self.assertEqual(self.check_fatal("faulthandler._sigsegv()"), -signal.SIGSEGV)

    def test_fatal_error(self):
        self.assertEqual(self.check_fatal("_testcapi.fatal_error(b'enough')"), -signal.SIGABRT)

    def test_watchdog(self):
        # Of a program that hangs.
        rc, out, err = self.run_failing("""
            import faulthandler

            def waits(lock):
                with lock:
                    pass

            lock = threading.Lock()
            lock.acquire()
            thread = spawn(waits, lock)
            while thread.state != "parked":
                time.sleep(0.01)
            faulthandler.dump_traceback_later(0.01, exit=True)
            thread.join()
            """)
        self.assertEqual(rc, 1)
        self.assertRegex(err, r"wait:\n\nThread 0x[0-9a-f]+ .*:\n  File .* in waits\n")

    def check_interrupt(self, code):
        # A shell may have started us with the signal ignored.
        process = spawn_python('-c', PRELUDE + """
            import signal
            signal.signal(signal.SIGINT, signal.default_int_handler)
            """ + code, stderr=subprocess.PIPE)
        try:
            self.assertEqual(process.stdout.readline().strip(), b"ready")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
            process.wait()
        self.assertIn(b"KeyboardInterrupt", err)
        return out

    def test_interrupt_in_join(self):
        out = self.check_interrupt("""
            event = threading.Event()
            threads = [spawn(event.wait) for _ in range(100)]
            try:
                print("ready", flush=True)
                threads[0].join()
            finally:
                event.set()
                print("interrupted", flush=True)
            """)
        self.assertEqual(out.strip(), b"interrupted")

    def test_interrupt_in_executor_shutdown(self):
        out = self.check_interrupt("""
            from concurrent.futures import VirtualThreadPoolExecutor
            event = threading.Event()
            executor = VirtualThreadPoolExecutor()
            for _ in range(100):
                executor.submit(event.wait)
            try:
                print("ready", flush=True)
                executor.shutdown()
            finally:
                event.set()
                print("interrupted", flush=True)
            """)
        self.assertEqual(out.strip(), b"interrupted")

    def test_signals_reach_the_main_thread(self):
        # While virtual threads compute on all carriers.
        self.assertEqual(self.run_ok("""
            import signal
            seen = threading.Event()
            signal.signal(signal.SIGUSR1, lambda *args: seen.set())

            def compute():
                while not seen.is_set():
                    sum(range(100))

            threads = [spawn(compute) for _ in range(8)]
            os.kill(os.getpid(), signal.SIGUSR1)
            for thread in threads:
                thread.join()
            print("seen")
            """), ["seen"])


if __name__ == "__main__":
    unittest.main()

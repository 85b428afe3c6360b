"""-X virtual_threads and PYTHON_VIRTUAL_THREADS: every threading.Thread is virtual."""

import unittest
from test.support.script_helper import assert_python_failure, assert_python_ok

SHOW = """if True:
            import _vthread, threading, virtual_threading
            found = []
            thread = threading.Thread(
                target=lambda: found.append(virtual_threading.is_virtual()))
            thread.start()
            thread.join()
            print(found[0], _vthread.get_config()[1])
"""


class SwitchTests(unittest.TestCase):

    def show(self, *args, **env):
        rc, out, err = assert_python_ok(*args, '-c', SHOW, **env)
        self.assertEqual(err, b"")
        virtual, parallelism = out.split()
        return virtual == b"True", int(parallelism)

    def test_off(self):
        virtual, default = self.show()
        self.assertFalse(virtual)
        self.assertEqual(self.show('-X', 'virtual_threads=0'), (False, default))
        self.assertEqual(self.show(PYTHON_VIRTUAL_THREADS='0'), (False, default))
        self.assertEqual(self.show(PYTHON_VIRTUAL_THREADS=''), (False, default))

    def test_on(self):
        _, default = self.show()
        self.assertEqual(self.show('-X', 'virtual_threads'), (True, default))
        self.assertTrue(self.show(PYTHON_VIRTUAL_THREADS='1')[0])

    def test_parallelism(self):
        for number in (1, 3, 16):
            self.assertEqual(self.show('-X', f'virtual_threads={number}'),
                             (True, number))

    def test_option_wins(self):
        self.assertFalse(self.show('-X', 'virtual_threads=0',
                                   PYTHON_VIRTUAL_THREADS='1')[0])
        self.assertEqual(self.show('-X', 'virtual_threads=3',
                                   PYTHON_VIRTUAL_THREADS='0'), (True, 3))

    def test_children_of_multiprocessing(self):
        # They are what the parent is, also where the environment says otherwise.
        code = f"""if True:
            import multiprocessing
            for method in ("spawn", "forkserver"):
                process = multiprocessing.get_context(method).Process(
                    target=exec, args=({SHOW!r}, {{}}))
                process.start()
                process.join()
            """

        def show(*args, **env):
            rc, out, err = assert_python_ok(*args, '-c', code, **env)
            self.assertEqual(err, b"")
            return out.decode().splitlines()

        default = self.show()[1]
        self.assertEqual(show(), [f"False {default}"] * 2)
        self.assertEqual(show('-X', 'virtual_threads'), [f"True {default}"] * 2)
        self.assertEqual(show('-X', 'virtual_threads=3'), ["True 3"] * 2)
        self.assertEqual(show('-X', 'virtual_threads=0', PYTHON_VIRTUAL_THREADS='1'),
                         [f"False {default}"] * 2)
        self.assertEqual(show(PYTHON_VIRTUAL_THREADS='3'), ["True 3"] * 2)

    def test_environment_is_ignored_when_told_so(self):
        self.assertFalse(self.show('-E', __cleanenv=False,
                                   PYTHON_VIRTUAL_THREADS='1')[0])

    def test_help(self):
        # CPython's test_cmd_line sees to the order.
        rc, out, err = assert_python_ok('--help-xoptions')
        for option in '-X virtual_threads[=N]: ', '-X virtual_threads_trace_pins: ':
            self.assertIn(f'\n{option}', out.decode())
        rc, out, err = assert_python_ok('--help-env')
        self.assertIn('\nPYTHON_VIRTUAL_THREADS: ', out.decode())

    def test_bad_values(self):
        for value in ('-1', 'x', '1.5', '1x', ' ', '99999999999999999999', '='):
            with self.subTest(value):
                for args, env in ((('-X', f'virtual_threads={value}'), {}),
                                  ((), {'PYTHON_VIRTUAL_THREADS': value})):
                    rc, out, err = assert_python_failure(*args, '-c', 'print(1)', **env)
                    self.assertEqual(out, b"")
                    # What was given, and what is accepted.
                    self.assertRegex(err.decode(), "(?i)virtual_threads")
                    self.assertRegex(err.decode(), "integer|number")


class ProgramTests(unittest.TestCase):
    """Unmodified programs."""

    def run_ok(self, code):
        rc, out, err = assert_python_ok('-X', 'virtual_threads', '-c',
                                        "if True:\n" + code)
        self.assertEqual(err, b"")
        return out.decode().splitlines()

    def test_many_threads(self):
        # As OS threads they would be too many.
        self.assertEqual(self.run_ok("""
            import os, threading
            event = threading.Event()
            threads = [threading.Thread(target=event.wait) for _ in range(2000)]
            for thread in threads:
                thread.start()
            assert threading.active_count() == 2001
            assert len(set(threading.enumerate())) == 2001
            assert len(os.listdir("/proc/self/task")) < 300
            event.set()
            for thread in threads:
                thread.join()
            assert threading.active_count() == 1
            print("end")
            """), ["end"])

    def test_identity(self):
        self.assertEqual(self.run_ok("""
            import threading, virtual_threading
            def run():
                current = threading.current_thread()
                assert type(current) is threading.Thread
                assert current.ident == threading.get_ident()
                assert virtual_threading.is_virtual(current)
                print(current.name)
            thread = threading.Thread(target=run, name="a name")
            thread.start()
            thread.join()
            assert not virtual_threading.is_virtual(threading.main_thread())
            assert virtual_threading.is_virtual(thread)
            """), ["a name"])

    def test_thread_pool_executor(self):
        self.assertEqual(self.run_ok("""
            import virtual_threading
            from concurrent.futures import ThreadPoolExecutor
            with ThreadPoolExecutor(500) as executor:
                print(sum(executor.map(lambda _: virtual_threading.is_virtual(),
                                       range(1000))))
            """), ["1000"])

    def test_timer_queue_logging(self):
        self.assertEqual(self.run_ok("""
            import logging, queue, sys, threading
            logging.basicConfig(stream=sys.stdout, format="%(threadName)s %(message)s")
            items = queue.Queue()
            timer = threading.Timer(0.01, items.put, [1])
            timer.name = "timer"
            timer.start()
            items.get()
            timer.join()
            thread = threading.Thread(target=logging.warning, args=("hello",), name="t")
            thread.start()
            thread.join()
            """), ["t hello"])

    def test_threading_server(self):
        self.assertEqual(self.run_ok("""
            import socket, socketserver, threading, virtual_threading

            class Handler(socketserver.StreamRequestHandler):
                def handle(self):
                    line = self.rfile.readline()
                    self.wfile.write(b"%d " % virtual_threading.is_virtual() + line)

            class Server(socketserver.ThreadingTCPServer):
                request_queue_size = 200

            with Server(("127.0.0.1", 0), Handler) as server:
                threading.Thread(target=server.serve_forever).start()
                socks = [socket.create_connection(server.server_address)
                         for _ in range(100)]
                for sock in socks:
                    sock.sendall(b"hello\\n")
                found = {sock.makefile().readline() for sock in socks}
                for sock in socks:
                    sock.close()
                server.shutdown()
            print(found)
            """), ["{'1 hello\\n'}"])

    def test_joined_at_exit(self):
        self.assertEqual(self.run_ok("""
            import threading, time
            main_ends = threading.Event()
            def run():
                main_ends.wait()
                time.sleep(0.05)
                print("ran")
            threading.Thread(target=run).start()
            daemon = threading.Thread(target=time.sleep, args=(1000,), daemon=True)
            daemon.start()
            print("main ends")
            main_ends.set()
            """), ["main ends", "ran"])

    def test_subinterpreter(self):
        # It has no virtual threads, so its threads are platform threads.
        self.assertEqual(self.run_ok("""
            import _interpreters, threading
            code = '''if True:
                import threading, virtual_threading
                found = []
                thread = threading.Thread(
                    target=lambda: found.append(virtual_threading.is_virtual()))
                thread.start()
                thread.join()
                print(found[0], virtual_threading.is_virtual(thread), flush=True)
                try:
                    virtual_threading.Thread(target=int).start()
                except RuntimeError as exc:
                    print(exc, flush=True)
                '''
            interp = _interpreters.create()
            def run():
                error = _interpreters.exec(interp, code)
                assert error is None, error
            run()
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            _interpreters.destroy(interp)
            """), ["False False",
                   "virtual threads are not supported in subinterpreters"] * 2)

    def test_dump_knows_their_names(self):
        self.assertEqual(self.run_ok("""
            import io, threading, virtual_threading
            event = threading.Event()
            thread = threading.Thread(target=event.wait, name="a name")
            thread.start()
            file = io.StringIO()
            virtual_threading.dump(file)
            event.set()
            thread.join()
            print('"a name"' in file.getvalue())
            """), ["True"])


if __name__ == "__main__":
    unittest.main()

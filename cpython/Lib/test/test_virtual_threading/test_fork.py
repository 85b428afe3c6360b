"""fork beside and inside virtual threads: the child has the forking thread alone."""

import unittest
from test import support
from test.support.script_helper import assert_python_ok

PRELUDE = """if True:
            import os, sys, threading, time, multiprocessing, subprocess
            import virtual_threading
            from virtual_threading import Thread, is_virtual, spawn, yield_now

            def wait(pid):
                assert os.waitpid(pid, 0)[1] == 0, "the child failed"

            def in_child(func):
                # Forks; the child calls func and ends.
                pid = os.fork()
                if pid == 0:
                    try:
                        func()
                        sys.stdout.flush()
                        os._exit(0)
                    except BaseException:
                        import traceback
                        traceback.print_exc()
                        os._exit(1)
                wait(pid)
"""


@support.requires_fork()
class ForkTests(unittest.TestCase):

    def run_ok(self, code):
        rc, out, err = assert_python_ok('-W', 'ignore', '-c', PRELUDE + code)
        self.assertEqual(err, b"")
        return out.decode().splitlines()

    def test_beside_parked_threads(self):
        self.assertEqual(self.run_ok("""
            event = threading.Event()
            threads = [spawn(event.wait) for _ in range(100)]

            def child():
                assert threading.active_count() == 1, threading.enumerate()
                assert not any(t.is_alive() for t in threads)
                threads[0].join()
                assert threads[0].state == "terminated"
                assert threading.current_thread() is threading.main_thread()
                print("child")

            in_child(child)
            event.set()
            for thread in threads:
                thread.join()
            print("parent")
            """), ["child", "parent"])

    def test_child_starts_threads(self):
        self.assertEqual(self.run_ok("""
            def run():
                event = threading.Event()
                found = []
                threads = [spawn(lambda: found.append(event.wait()))
                           for _ in range(100)]
                event.set()
                for thread in threads:
                    thread.join()
                return len(found)

            assert run() == 100
            in_child(lambda: print(run()))
            print(run())
            """), ["100", "100"])

    def test_in_a_virtual_thread(self):
        self.assertEqual(self.run_ok("""
            event = threading.Event()
            others = [spawn(event.wait) for _ in range(20)]

            def child():
                assert is_virtual()
                assert threading.active_count() == 1, threading.enumerate()
                assert threading.enumerate() == [threading.current_thread()]
                assert threading.main_thread() is threading.current_thread()
                assert not any(t.is_alive() for t in others)
                assert threading.current_thread().is_alive()
                print("child")

            thread = spawn(in_child, child)
            thread.join()
            event.set()
            for thread in others:
                thread.join()
            print("parent")
            """), ["child", "parent"])

    def test_child_of_a_virtual_thread_goes_on(self):
        # It parks, computes, starts and joins threads.
        self.assertEqual(self.run_ok("""
            def child():
                time.sleep(0.01)
                yield_now()
                found = []
                threads = [spawn(found.append, n) for n in range(50)]
                for thread in threads:
                    thread.join()
                platform = threading.Thread(target=found.append, args=(50,))
                platform.start()
                platform.join()
                print(len(found))

            spawn(in_child, child).join()
            """), ["51"])

    def test_child_of_a_virtual_thread_ends_by_exit(self):
        self.assertEqual(self.run_ok("""
            def run():
                pid = os.fork()
                if pid == 0:
                    sys.exit()          # ends the thread, which is the only one
                wait(pid)
                print("parent")

            spawn(run).join()
            """), ["parent"])

    # How a child ends that was forked in a thread which returns: as on stock, with its last
    # thread, daemons included, with status 0, and without the functions of atexit.
    ENDS = """
            import atexit
            threading.excepthook = lambda args: None
            STARTS = {"platform": threading.Thread, "virtual": Thread}

            class Child:
                # Forks in a thread of that kind, which calls func(self) in the child and
                # returns, or raises what func raises.
                def __init__(self, kind, func):
                    self.told, self.say = os.pipe()     # from the child
                    self.go_on, self.let = os.pipe()    # to the child
                    thread = STARTS[kind](target=self.fork, args=(func,))
                    thread.start()
                    thread.join()
                    os.close(self.say)

                def fork(self, func):
                    self.pid = os.fork()
                    if self.pid == 0:
                        atexit.register(self.tell, b"atexit")
                        self.forker = threading.current_thread()
                        func(self)

                def tell(self, word):
                    os.write(self.say, word + b" ")

                # In the child, in a thread of its own: the one that forked has ended; and the
                # process does not end before the parent has heard that.
                def outlive(self):
                    self.forker.join()
                    self.tell(b"alone")
                    os.read(self.go_on, 1)

                def let_end(self):
                    assert os.read(self.told, 6) == b"alone "
                    os.write(self.let, b"x")

                # What it has told since, when it has ended.
                def end(self):
                    with open(self.told, "rb") as file:
                        words = file.read().decode().split()
                    wait(self.pid)
                    os.close(self.let)
                    os.close(self.go_on)
                    return words
    """

    def test_end_of_a_child(self):
        self.assertEqual(self.run_ok(self.ENDS + """
            import itertools

            def work(child):
                child.outlive()
                child.tell(b"work")

            def fork_and_start(forks, starts, daemon, raises):
                def func(child):
                    STARTS[starts](target=work, args=(child,), daemon=daemon).start()
                    if raises is not None:
                        raise raises

                child = Child(forks, func)
                child.let_end()
                words = child.end()
                assert words == ["work"], (forks, starts, daemon, raises, words)

            for case in itertools.product(STARTS, STARTS, (False, True),
                                          (None, SystemExit(3), ValueError())):
                fork_and_start(*case)
            print("end")
            """), ["end"])

    def test_end_of_a_child_without_threads(self):
        self.assertEqual(self.run_ok(self.ENDS + """
            beside = threading.Event()
            thread = spawn(beside.wait)
            for kind in STARTS:
                print(Child(kind, lambda child: None).end())
            beside.set()
            thread.join()
            """), ["[]", "[]"])

    def test_end_of_a_child_with_executor_and_scope(self):
        self.assertEqual(self.run_ok(self.ENDS + """
            from concurrent.futures import VirtualThreadPoolExecutor

            def executor(child):
                VirtualThreadPoolExecutor().submit(child.tell, b"work")

            def scope(child):
                with virtual_threading.TaskScope() as scope:
                    scope.spawn(child.tell, b"work")

            for kind in STARTS:
                print(*Child(kind, executor).end(), *Child(kind, scope).end())
            """), ["work work"] * 2)

    def test_child_starts_virtual_threads_again(self):
        # Each time the last one has ended there are no carriers any more.
        self.assertEqual(self.run_ok(self.ENDS + """
            def work(child):
                child.outlive()
                found = []
                for n in range(20):
                    threads = [spawn(found.append, n) for _ in range(n % 3 + 1)]
                    for thread in threads:
                        thread.join()
                    virtual_threading.configure(parallelism=n % 3 + 1)
                child.tell(b"%d" % len(found))

            def many(child):
                for _ in range(3):
                    threading.Thread(target=run_some, args=(child,)).start()

            def run_some(child):
                for _ in range(20):
                    thread = spawn(yield_now)
                    thread.join()
                child.tell(b"many")

            for kind in STARTS:
                child = Child(kind, lambda child: threading.Thread(
                    target=work, args=(child,)).start())
                child.let_end()
                print(*child.end())
                print(*Child(kind, many).end())
            """), ["39", "many many many"] * 2)

    def test_end_of_a_grandchild(self):
        # Forked where there is no pool, and where there is one.
        self.assertEqual(self.run_ok(self.ENDS + """
            def fork_again(child):
                def work():
                    for kind in STARTS:
                        words = Child(kind, lambda child: spawn(child.tell, b"work")).end()
                        child.tell(" ".join(words).encode())

                for kind in STARTS:
                    STARTS[kind](target=work).start()

            for kind in STARTS:
                print(*Child(kind, fork_again).end())
            """), ["work work work work"] * 2)

    def test_grandchild(self):
        self.assertEqual(self.run_ok("""
            def child():
                in_child(lambda: print("grandchild"))
                spawn(in_child, lambda: print("of a thread")).join()

            spawn(in_child, child).join()
            """), ["grandchild", "of a thread"])

    def test_signals_in_a_child_of_a_virtual_thread(self):
        # It is the main thread there: a signal interrupts whatever it waits in.
        self.assertEqual(self.run_ok("""
            import select, signal, socket

            class Alarm(Exception):
                pass

            armed = []

            def handler(*args):
                if armed:
                    armed.pop()
                    raise Alarm

            def child():
                lock = threading.Lock()
                lock.acquire()
                left, right = socket.socketpair()
                r, w = os.pipe()
                event = threading.Event()
                signal.signal(signal.SIGALRM, handler)
                for wait in (lock.acquire, event.wait, lambda: left.recv(1),
                             lambda: os.read(r, 1), lambda: time.sleep(1000),
                             lambda: select.select([left], [], []), signal.pause,
                             lambda: list(map(left.recv, [1]))):
                    try:
                        armed.append(True)
                        # Again and again: the first one may come right before the wait.
                        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
                        wait()
                    except Alarm:
                        print("interrupted")

            spawn(in_child, child).join()
            """), ["interrupted"] * 8)

    def test_waits_go_on_after_signals(self):
        # A signal ends the system call in which the child's main thread waits; its handler
        # runs, and the wait goes on, until the handler makes it end.
        self.assertEqual(self.run_ok("""
            import fcntl, select, signal, socket, struct, tempfile

            def set_lock(file, kind):
                # An open file's lock, which keeps out the process that has it, too.
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhlli", kind, 0, 0, 0, 0))

            def cases():
                # (what waits, what lets that end)
                lock = threading.Lock()
                lock.acquire()
                yield lock.acquire, lock.release
                shared = multiprocessing.get_context("fork").Lock()
                shared.acquire()
                yield shared.acquire, shared.release
                left, right = socket.socketpair()
                for wait in ((lambda: left.recv(1)), (lambda: os.read(left.fileno(), 1)),
                             (lambda: list(map(left.recv, [1])))):
                    yield wait, lambda: right.send(b"x")
                yield (lambda: select.select([left], [], [])), (lambda: right.send(b"x"))
                files = [tempfile.TemporaryFile()]
                files.append(open(f"/proc/self/fd/{files[0].fileno()}", "r+b"))
                fcntl.flock(files[0], fcntl.LOCK_EX)
                yield ((lambda: fcntl.flock(files[1], fcntl.LOCK_EX)),
                       (lambda: fcntl.flock(files[0], fcntl.LOCK_UN)))
                set_lock(files[0], fcntl.F_WRLCK)
                yield ((lambda: fcntl.lockf(files[1], fcntl.LOCK_EX)),
                       (lambda: set_lock(files[0], fcntl.F_UNLCK)))
                with tempfile.TemporaryDirectory() as directory:
                    path = os.path.join(directory, "fifo")
                    os.mkfifo(path)
                    opened = []
                    yield ((lambda: opened.append(os.open(path, os.O_RDONLY))),
                           (lambda: opened.append(os.open(path, os.O_RDWR))))
                    for fd in opened:
                        os.close(fd)
                for wait in (lambda pid: os.waitpid(pid, 0)), (lambda pid: os.wait()):
                    process = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
                    yield (lambda: wait(process.pid)), process.stdin.close
                signals = [signal.SIGUSR1]
                signal.pthread_sigmask(signal.SIG_BLOCK, signals)
                yield ((lambda: signal.sigwaitinfo(signals)),
                       (lambda: os.kill(os.getpid(), signal.SIGUSR1)))

            seen = 0
            release = None

            def handler(*args):
                global seen
                seen += 1
                if seen == 3:
                    release()

            def child():
                global seen, release
                signal.signal(signal.SIGALRM, handler)
                for wait, release in cases():
                    seen = 0
                    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
                    wait()
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    assert seen >= 3, seen
                seen = 3
                begun = time.monotonic()
                signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
                time.sleep(0.1)
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert seen > 3 and time.monotonic() - begun >= 0.1
                print("end")

            spawn(in_child, child).join()
            """), ["end"])

    def test_many_forks(self):
        self.assertEqual(self.run_ok("""
            stop = threading.Event()

            def churn():
                while not stop.is_set():
                    spawn(yield_now).join()

            threads = [spawn(churn) for _ in range(4)]
            forks = [spawn(in_child, lambda: None) for _ in range(20)]
            for thread in forks:
                thread.join()
            for _ in range(5):
                in_child(lambda: spawn(yield_now).join())
            stop.set()
            for thread in threads:
                thread.join()
            print("end")
            """), ["end"])

    def test_while_others_collect(self):
        # Each of them waits for the pause around the fork to end, and holds the
        # interpreter's mutex of pauses, which the child takes, too.
        self.assertEqual(self.run_ok("""
            import gc
            stop = threading.Event()

            def collect():
                while not stop.is_set():
                    gc.collect()

            threads = [threading.Thread(target=collect) for _ in range(2)]
            threads += [Thread(target=collect) for _ in range(2)]
            for thread in threads:
                thread.start()
            for _ in range(20):
                in_child(lambda: threading.enumerate())
                spawn(in_child, lambda: threading.enumerate()).join()
            stop.set()
            for thread in threads:
                thread.join()
            print("end")
            """), ["end"])

    def test_held_locks(self):
        # A lock of the program that a lost thread holds stays locked, as ever.
        self.assertEqual(self.run_ok("""
            lock = threading.Lock()
            event = threading.Event()
            entered = threading.Event()

            def hold():
                with lock:
                    entered.set()
                    event.wait()

            thread = spawn(hold)
            entered.wait()

            def child():
                assert not lock.acquire(timeout=0.01)
                print("child")

            in_child(child)
            event.set()
            thread.join()
            """), ["child"])

    def test_multiprocessing(self):
        self.assertEqual(self.run_ok("""
            def run():
                process = multiprocessing.get_context("fork").Process(
                    target=print, args=("child",))
                process.start()
                process.join()
                assert process.exitcode == 0

            threads = [spawn(run) for _ in range(3)]
            for thread in threads:
                thread.join()
            """), ["child"] * 3)

    def test_subprocess_in_the_child(self):
        self.assertEqual(self.run_ok("""
            def child():
                print(subprocess.check_output(["/bin/echo", "output"], text=True),
                      end="")

            spawn(in_child, child).join()
            """), ["output"])


if __name__ == "__main__":
    unittest.main()

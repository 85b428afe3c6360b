"""dump(): every virtual thread with its stack."""

import io
import json
import socket
import threading
import time
import unittest
from test import support

import virtual_threading
from test.test_virtual_threading.util import LONG, TestCase
from virtual_threading import TaskScope, Thread, dump, pin


def outer(event):
    inner(event)


def inner(event):
    event.wait()


class DumpTests(TestCase):

    def start(self, name="a thread"):
        event = self.make_event()
        thread = Thread(target=outer, args=(event,), name=name)
        thread.start()
        self.wait_until(lambda: thread.state == "parked", "parked")
        self.addCleanup(self.join, [thread])
        self.addCleanup(event.set)
        return thread

    def dump(self, **kwargs):
        file = io.StringIO()
        self.assertIsNone(dump(file, **kwargs))
        return file.getvalue()

    def test_text(self):
        thread = self.start()
        text = self.dump()
        self.assertRegex(text.splitlines()[0], r"virtual thread.*parallelism \d+")
        block = next(block for block in text.split("\n\n") if '"a thread"' in block)
        self.assertIn(f"{thread.ident:#x}", block)
        self.assertIn("parked", block)
        self.assertRegex(block, rf'File "{__file__}", line \d+, in inner\n')
        self.assertLess(block.index("in outer"), block.index("in inner"))
        self.assertLess(block.index("in inner"), block.index("in Event.wait"))

    def test_json(self):
        thread = self.start()
        found = json.loads(self.dump(format="json"))
        self.assertEqual(set(found), {"threads", "carriers", "stats"})
        entry = next(e for e in found["threads"] if e["id"] == thread.ident)
        self.assertEqual(set(entry), {"id", "name", "state", "carrier", "waiting",
                                      "scope", "stack"})
        self.assertEqual((entry["name"], entry["state"]), ("a thread", "parked"))
        functions = [frame["function"] for frame in entry["stack"]]
        index = functions.index("inner")
        self.assertEqual(functions[index - 1:index + 2], ["outer", "inner", "Event.wait"])
        self.assertEqual(entry["stack"][index]["file"], __file__)
        self.assertIsInstance(entry["stack"][index]["line"], int)

    def test_says_what_it_waits_for(self):
        thread = self.start()
        entry = next(e for e in json.loads(self.dump(format="json"))["threads"]
                     if e["id"] == thread.ident)
        self.assertIsInstance(entry["waiting"]["for"], str)
        self.assertGreaterEqual(entry["waiting"]["since"], 0)
        self.assertIn(f"waiting for {entry['waiting']['for']}", self.dump())

    def test_says_what_a_pinned_one_waits_for(self):
        event = self.make_event()
        a, b = socket.socketpair()
        self.addCleanup(a.close)
        self.addCleanup(b.close)

        def pinned(call):
            # It has parked before, for something else.
            list(map(time.sleep, [0.001]))
            with pin():
                call()

        calls = {"lock": event.wait, "socket recv": lambda: a.recv(1),
                 "sleep": lambda: time.sleep(LONG)}
        threads = {reason: virtual_threading.spawn(pinned, call)
                   for reason, call in calls.items()}
        for thread in threads.values():
            self.addCleanup(thread.interrupt)
        for reason, thread in threads.items():
            with self.subTest(reason):
                self.wait_until(lambda: thread.state == "pinned", "pinned")
                entry = next(e for e in json.loads(self.dump(format="json"))["threads"]
                             if e["id"] == thread.ident)
                self.assertEqual(entry["state"], "pinned")
                self.assertEqual(entry["waiting"]["for"], reason)
                self.assertGreaterEqual(entry["waiting"]["since"], 0)
                self.assertRegex(self.dump(),
                                 f"{thread.ident:#x} pinned.* for {reason}\n")
        event.set()
        b.send(b"x")
        threads["sleep"].interrupt()
        self.join(threads.values())

    def test_odd_names(self):
        # The other threads are shown nevertheless.
        class FailingStr(str):
            def __str__(self):
                raise ZeroDivisionError

            __repr__ = __format__ = __str__

        class Failing(Thread):
            @property
            def name(self):
                raise ZeroDivisionError

        class Named(Thread):
            name = FailingStr("never seen")
            _scope = object()

        class Unprintable(Thread):
            name = 3
            _scope = 1j

        event = self.make_event()
        others = [self.start("before"), self.start("lone \udcff surrogate, caf\xe9")]
        odd = [thread_class(target=event.wait) for thread_class in (Failing, Named, Unprintable)]
        for thread in odd:
            thread.start()
        others.append(self.start("after"))
        file = io.TextIOWrapper(io.BytesIO(), "ascii")
        with self.setting(event):
            text = self.dump()
            found = json.loads(self.dump(format="json"))
            dump(file)
        self.join(odd)
        self.assertIn('"lone \\udcff surrogate, caf\xe9"', text)
        file.seek(0)
        ascii_text = file.read()
        self.assertIn('"lone \\udcff surrogate, caf\\xe9"', ascii_text)
        for shown in text, ascii_text:
            for thread in others + odd:
                self.assertIn(f" {thread.ident:#x} ", shown)
            self.assertIn('"before"', shown)
            self.assertIn('"after"', shown)
            self.assertIn(f'"Thread at {odd[0].ident:#x}"', shown)
        names = {entry["id"]: entry["name"] for entry in found["threads"]}
        self.assertEqual(names[others[1].ident], others[1].name)
        self.assertEqual(names[odd[0].ident], f"Thread at {odd[0].ident:#x}")
        self.assertEqual(names[odd[2].ident], "3")

    def test_odd_name_of_scope(self):
        event = self.make_event()
        file = io.TextIOWrapper(io.BytesIO(), "ascii")
        with TaskScope(name="caf\xe9 \udcff") as scope, self.setting(event):
            scope.spawn(event.wait)
            dump(file)
        file.seek(0)
        self.assertIn("in scope 'caf\\xe9 \\udcff'", file.read())

    def test_from_a_virtual_thread(self):
        text = self.call(self.dump)
        self.assertIn("running", text)
        self.assertIn("in DumpTests.dump", text)

    def test_default_file(self):
        self.start("on stderr")
        with support.captured_stderr() as stderr:
            dump()
        self.assertIn('"on stderr"', stderr.getvalue())

    def test_without_threads(self):
        self.assertTrue(self.dump())
        self.assertEqual(json.loads(self.dump(format="json"))["threads"], [])

    def test_bad_format(self):
        for format in ("xml", None, ""):
            with self.assertRaisesRegex(ValueError, "'text' or 'json'"):
                dump(io.StringIO(), format=format)

    def test_while_threads_come_and_go(self):
        stop = self.make_event()

        def churn():
            while not stop.is_set():
                virtual_threading.spawn(sum, range(100)).join()

        threads = [virtual_threading.spawn(churn) for _ in range(4)]
        for _ in range(20):
            self.dump()
        stop.set()
        self.join(threads)


if __name__ == "__main__":
    unittest.main()

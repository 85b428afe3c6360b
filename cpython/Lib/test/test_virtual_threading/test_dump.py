"""dump(): every virtual thread with its stack."""

import io
import json
import sys
import threading
import unittest
from test import support

import virtual_threading
from test.test_virtual_threading.util import TestCase
from virtual_threading import Thread, dump


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

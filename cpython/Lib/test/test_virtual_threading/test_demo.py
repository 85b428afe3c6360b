"""python -m virtual_threading: the demo, small."""

import os
import subprocess
import sys
import unittest
from test.support import os_helper
from test.support.script_helper import assert_python_failure, assert_python_ok

from virtual_threading import demo


class DemoTests(unittest.TestCase):

    def setUp(self):
        self.directory = self.enterContext(os_helper.temp_dir())
        self.size = 0
        for number in range(50):
            directory = os.path.join(self.directory, str(number % 7))
            os.makedirs(directory, exist_ok=True)
            path = os.path.join(directory, f"file {number} #%?.txt")
            with open(path, "wb") as file:
                self.size += file.write(os.urandom(number * 1000))

    def run_demo(self, *args):
        return assert_python_ok('-m', 'virtual_threading', 'demo', '--directory',
                                self.directory, '--in-flight', '20', '--sleepers', '500',
                                *args)

    def test_run(self):
        rc, out, err = self.run_demo()
        out = out.decode()
        self.assertIn(f"50 files, {self.size:,} bytes", out)
        self.assertRegex(out, r"files, SHA-256 as on disk +50 +50\n")
        self.assertRegex(out, rf"bytes +{self.size:,} +{self.size:,}\n")
        self.assertIn("counted to 500\n", out)
        self.assertIn("50 of 50", err.decode())

    def test_no_compare(self):
        rc, out, err = self.run_demo('--no-compare')
        self.assertNotIn(b"ThreadPoolExecutor", out)

    def test_in_a_program_that_is_all_virtual(self):
        rc, out, err = assert_python_ok(
            '-X', 'virtual_threads', '-m', 'virtual_threading', 'demo', '--directory',
            self.directory, '--in-flight', '20', '--sleepers', '500')
        self.assertIn(b"ThreadPoolExecutor", out)

    def test_few_descriptors(self):
        # The limit cannot be raised: fewer requests, and a line that says so.
        code = ("import resource, runpy, sys; "
                "resource.setrlimit(resource.RLIMIT_NOFILE, (130, 130)); "
                "sys.argv = ['demo'] + sys.argv[1:]; "
                "runpy.run_module('virtual_threading', run_name='__main__')")
        process = subprocess.run(
            [sys.executable, '-c', code, 'demo', '--directory', self.directory,
             '--sleepers', '10', '--no-compare'], capture_output=True, text=True)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn("only 10 requests will be in flight", process.stdout)

    def test_mismatch_is_a_failure(self):
        result = dict(files=1, bytes=1, vanished=[], errors=[],
                      mismatches=[["path", "a", "b"]])
        with self.assertRaisesRegex(demo.Failure, "1 files differ"):
            demo._check_fetch('virtual', result, 2)
        result['mismatches'] = []
        with self.assertRaisesRegex(demo.Failure, "1 of 2 files"):
            demo._check_fetch('virtual', result, 2)
        result['errors'] = ["OSError()"]
        with self.assertRaisesRegex(demo.Failure, "requests failed"):
            demo._check_fetch('virtual', result, 2)

    def test_failure_is_loud(self):
        rc, out, err = assert_python_failure(
            '-m', 'virtual_threading', 'demo', '--directory',
            os.path.join(self.directory, "nonexistent"))
        self.assertEqual(rc, 1)
        self.assertIn(b"demo failed", err)

    def test_usage(self):
        for args in ((), ('nonsense',), ('demo', '--in-flight', '0'),
                     ('demo', '--sleepers', 'x')):
            rc, out, err = assert_python_failure('-m', 'virtual_threading', *args)
            self.assertEqual(rc, 2)
            self.assertIn(b"usage: python -m virtual_threading", err)


if __name__ == "__main__":
    unittest.main()

"""Imports of extension modules, each of which enables the GIL for a moment.

For that a detached thread stops the world, while other threads hold all slots.
"""

import unittest
from test.support import requires_subprocess
from test.support.script_helper import assert_python_ok


@requires_subprocess()
class ExtensionImportTests(unittest.TestCase):

    def run_beside_busy_threads(self, body):
        # A process of its own: modules can be imported for the first time only once.
        assert_python_ok('-c', f"""if True:
            import threading
            import virtual_threading

            virtual_threading.configure(parallelism=2)
            stop = threading.Event()

            def busy():
                while not stop.is_set():
                    for _ in range(1000):
                        pass

            threads = [virtual_threading.spawn(busy) for _ in range(6)]
            try:
                {body}
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            """)

    def test_import_beside_busy_threads(self):
        self.run_beside_busy_threads("""
                modules = ["_bisect", "_csv", "_json", "_pickle", "_queue", "_random",
                           "_statistics", "_struct", "_zoneinfo", "array", "binascii",
                           "cmath", "math", "mmap", "select", "syslog", "termios",
                           "unicodedata"]
                def load(names):
                    for name in names:
                        try:
                            __import__(name)
                        except ModuleNotFoundError:
                            pass        # not built on this system
                loaders = [virtual_threading.spawn(load, modules[i::3])
                           for i in range(3)]
                for loader in loaders:
                    loader.join()
        """.strip())

    def test_stop_the_world_beside_busy_threads(self):
        self.run_beside_busy_threads("""
                import gc
                def collect():
                    for _ in range(20):
                        gc.collect()
                collectors = [virtual_threading.spawn(collect) for _ in range(2)]
                for collector in collectors:
                    collector.join()
        """.strip())


if __name__ == "__main__":
    unittest.main()

"""pytest's own run of tests that use threads, and tqdm's pool of threads."""

import io
import pathlib
import tempfile

import pytest
from tqdm.contrib.concurrent import thread_map

from threads import check_virtual

TESTS = '''
import queue, threading
import pytest

@pytest.mark.parametrize("n", range(50))
def test_pipeline(n, capsys, tmp_path):
    source, target = queue.Queue(5), queue.Queue(5)
    def double():
        while (item := source.get()) is not None:
            target.put(2 * item)
        target.put(None)
    worker = threading.Thread(target=double)
    worker.start()
    feeder = threading.Thread(target=lambda: [source.put(i) for i in (*range(n), None)])
    feeder.start()
    assert list(iter(target.get, None)) == [2 * i for i in range(n)]
    worker.join()
    feeder.join()
    print(n)
    assert capsys.readouterr().out == f"{n}\\n"
'''

with tempfile.TemporaryDirectory() as directory:
    path = pathlib.Path(directory) / "test_threads.py"
    path.write_text(TESTS)
    status = pytest.main(["-q", "-p", "no:cacheprovider", str(path)])
assert status == 0, status


def square(n):
    check_virtual()
    return n * n


bar = io.StringIO()
squares = thread_map(square, range(5000), max_workers=100, file=bar)
assert squares == [n * n for n in range(5000)]
assert "/5000 [" in bar.getvalue()

"""The demo: plain blocking programs on virtual threads, beside the same on OS threads.

First, http.server.ThreadingHTTPServer serves the directory of the standard library and
urllib.request fetches every file of it, a thousand at a time; what arrives is compared
with the disk.  Then a hundred thousand threads sleep and count.  Each part is a process
of its own, so that none measures what another one has left behind.

Whatever is not as it should be ends the demo with exit code 1.
"""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import sysconfig
import tempfile

# An entry of the demo that takes longer hangs.  In seconds.
_PATIENCE = 600

# A request in flight has a socket at either end and an open file.
_FILES_A_REQUEST = 3
_FILES_ELSE = 100


class Failure(Exception):
    """The demo has failed; the message says how."""


def run(directory=None, in_flight=1000, sleepers=100_000, compare=True):
    """Run the demo, print its tables on stdout; Failure if anything is wrong."""
    if directory is None:
        directory = sysconfig.get_path('stdlib')
    in_flight = _allow_files(in_flight)
    files, total = _digests(directory)
    print(f"Every file of {directory} by HTTP: {len(files):,} files, {total:,} bytes, "
          f"{in_flight:,} requests in flight", flush=True)
    with tempfile.NamedTemporaryFile('w', suffix='.json') as manifest:
        json.dump(files, manifest)
        manifest.flush()
        found = {}
        for kind in ('virtual', 'os') if compare else ('virtual',):
            found[kind] = _child('virtual_threading.demo_fetch', kind, manifest.name,
                                 directory, str(in_flight))
    _print_fetches(found)
    for kind in found:
        _check_fetch(kind, found[kind], len(files))
    slept = _child('virtual_threading.demo_sleep', str(sleepers))
    _print_sleepers(slept)
    if slept['counted'] != sleepers:
        raise Failure(f"{sleepers:,} threads counted to {slept['counted']:,}")


def _allow_files(in_flight):
    # Returns how many requests may be in flight; the children inherit the limit.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = in_flight * _FILES_A_REQUEST + _FILES_ELSE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return in_flight
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    possible = (allowed - _FILES_ELSE) // _FILES_A_REQUEST
    if possible < in_flight:
        in_flight = max(possible, 1)
        print(f"The limit of open files is {allowed:,} (ulimit -Hn): only "
              f"{in_flight:,} requests will be in flight", flush=True)
    return in_flight


def _digests(directory):
    # [path, SHA-256] of all files that can be read, and the sum of their sizes.
    files = []
    total = 0
    for parent, _, names in os.walk(directory):
        for name in sorted(names):
            path = os.path.join(parent, name)
            try:
                with open(path, 'rb', buffering=0) as file:
                    digest = hashlib.file_digest(file, 'sha256').hexdigest()
                    total += file.tell()
            except OSError as exc:
                print(f"Left out: {exc}", file=sys.stderr)
                continue
            files.append([os.path.relpath(path, directory), digest])
    if not files:
        raise Failure(f"{directory}: no files")
    return files, total


def _child(module, *args):
    # The switches of this process are not for the children: OS threads shall be such.
    environment = {name: value for name, value in os.environ.items()
                   if name != 'PYTHON_VIRTUAL_THREADS'}
    process = subprocess.Popen([sys.executable, '-m', module, *args],
                               stdout=subprocess.PIPE, env=environment)
    try:
        output, _ = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        # It writes a dump of its threads.
        process.send_signal(signal.SIGUSR1)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            pass
        raise Failure(f"{module} {args[0]} has not ended in {_PATIENCE} s") from None
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise Failure(f"{module} {args[0]} ended with {process.returncode}")
    return json.loads(output)


def _check_fetch(kind, result, expected):
    name = "virtual threads" if kind == 'virtual' else "ThreadPoolExecutor"
    for path in result['vanished']:
        print(f"{path} was deleted meanwhile")
    for path, disk, network in result['mismatches']:
        print(f"{path}: SHA-256 on disk {disk}, by {name} {network}")
    if result['mismatches']:
        raise Failure(f"{len(result['mismatches']):,} files differ from the disk's")
    if result['errors']:
        message = (f"{name}: {len(result['errors']):,} requests failed, the first one "
                   f"with {result['errors'][0]}")
        if kind == 'virtual':
            raise Failure(message)
        # The machine may not have so many OS threads to give; no fault of ours.
        print(message)
    elif result['files'] + len(result['vanished']) != expected:
        raise Failure(f"{name}: {result['files']:,} of {expected:,} files arrived")


def _print_fetches(found):
    rows = [
        ("files, SHA-256 as on disk", lambda r: f"{r['files']:,}"),
        ("bytes", lambda r: f"{r['bytes']:,}"),
        ("requests in flight, most", lambda r: f"{r['in_flight']:,}"),
        ("threads started", lambda r: f"{r['threads']:,}"),
        ("carriers", lambda r: _count(r['carriers'])),
        ("OS threads, most", lambda r: f"{r['os_threads']:,}"),
        ("steals", lambda r: _count(r['steals'])),
        ("hand-offs", lambda r: _count(r['handoffs'])),
        ("memory (RSS), most, MB", lambda r: f"{r['memory'] / 1e6:,.0f}"),
        ("files a second", lambda r: f"{r['files'] / r['seconds']:,.0f}"),
        ("seconds", lambda r: f"{r['seconds']:.2f}"),
    ]
    titles = {'virtual': "virtual threads", 'os': "ThreadPoolExecutor"}
    print()
    print(" " * 26 + "".join(f"{titles[kind]:>20}" for kind in found))
    for name, text in rows:
        print(f"{name:26}" + "".join(f"{text(result):>20}" for result in found.values()))
    print(flush=True)


def _print_sleepers(slept):
    print(f"{slept['threads']:,} virtual threads that sleep {slept['sleep']:.1f} s "
          f"and count: counted to {slept['counted']:,}\n"
          f"  started in {slept['starting']:.2f} s "
          f"({slept['threads'] / slept['starting']:,.0f} a second), "
          f"{slept['asleep']:,} of them asleep at once\n"
          f"  {slept['memory_a_thread']:,.0f} bytes a thread, "
          f"{slept['carriers']} carriers, {slept['os_threads']} OS threads, "
          f"{slept['seconds']:.2f} s in all", flush=True)


def _count(number):
    return "-" if number is None else f"{number:,}"

#!/usr/bin/env python3
"""Finds CPython's source: a given file, the download cache, python.org, Debian.

Each place is tried in turn, and each that fails gets a line with the reason.  Only a
file with the sha256 of cpython/UPSTREAM is ever used or kept.
"""

import argparse
import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import aptsource
import upstream
from common import Stop, main, say, show

TIMEOUT_S = 20          # of one network operation, not of the download


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vthreads"


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path, release, place):
    found = sha256(path)
    if found != release.sha256:
        raise Stop(f"{place}: sha256 of {release.tarball}: expected {release.sha256}, "
                   f"found {found}")


def from_file(name, version=None):
    """--source FILE: the release is the one whose sha256 it has."""
    path = Path(name)
    if not path.is_file():
        raise Stop(f"--source {name}: there is no such file")
    found = sha256(path)
    known = [upstream.release(version)] if version else upstream.releases()
    for release in known:
        if release.sha256 == found:
            return release, path.resolve()
    expected = " or ".join(f"{r.sha256} ({r.version})" for r in known)
    raise Stop(f"--source {name}: sha256: expected {expected}, found {found}")


def _from_python_org(release, directory):
    path = Path(directory) / release.tarball
    show(["fetch", release.url])
    try:
        with urllib.request.urlopen(release.url, timeout=TIMEOUT_S) as reply, \
             open(path, "wb") as file:
            shutil.copyfileobj(reply, file)
    except urllib.error.URLError as error:
        raise Stop(f"cannot be reached: {error.reason}") from None
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise Stop(f"download failed: {error or type(error).__name__}") from None
    return path


PLACES = [("python.org", _from_python_org), ("Debian", aptsource.fetch)]


def cached(release):
    """The cached tarball, or None.  A damaged one is removed."""
    path = cache_dir() / release.tarball
    if not path.is_file():
        return None
    try:
        check(path, release, f"cache {path}")
    except Stop as stop:
        say(f"{stop}; removed")
        path.unlink()
        return None
    return path


def download(release):
    """The tarball of `release`, from the cache or a download; None when no place has it."""
    path = cached(release)
    if path is not None:
        return path
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    for place, function in PLACES:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as directory:
            try:
                path = function(release, directory)
                check(path, release, place)
            except Stop as stop:
                say(f"{place}: CPython {release.version}: {stop}")
                continue
            kept = cache / release.tarball
            os.replace(path, kept)      # the same file system: atomic
            say(f"CPython {release.version} from {place}, sha256 as in cpython/UPSTREAM")
            return kept
    return None


def get(source=None, version=None):
    """(release, tarball) by the user's options; Stop when there is none.

    Without a version the first release that can be had is taken, and a line says so
    when that is not the first one.
    """
    if source:
        return from_file(source, version)
    wanted = [upstream.release(version)] if version else upstream.releases()
    for release in wanted:
        path = download(release)
        if path is not None:
            if release is not wanted[0]:
                say(f"CPython {wanted[0].version} cannot be had; "
                    f"{release.version} is taken in its place")
            return release, path
    names = " nor ".join(r.version for r in wanted)
    raise Stop(f"no source of CPython {names}: give one with --source FILE")


def _main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source")
    parser.add_argument("--cpython", metavar="VERSION")
    options = parser.parse_args()
    release, path = get(options.source, options.cpython)
    print(release.version, path)


if __name__ == "__main__":
    main(_main)

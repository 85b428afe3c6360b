#!/usr/bin/env python3
"""Assembles build/tree: upstream's source, the overlay (cpython/) and the series.

The tree is a git repository with one commit for each of these:

    upstream    the release's tarball, byte for byte
    overlay     new files, from cpython/
    0010-...    one commit a patch, by `git am --no-3way`
      ...
    generated   what CPython's tools make of changed sources (only if there is any)

Two promises:

* No half-made tree.  It is assembled beside its place and renamed into it, so that a
  failure at any point leaves the old tree, or none.
* No work lost, and no needless compilation.  A tree with edits that are neither in
  cpython/ nor in patches/ is never replaced.  Files that did not change keep their
  modification time, and a tree whose inputs did not change is not touched at all.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

import fetch
import regen
import upstream
from common import (BUILD, OVERLAY, PATCHES, TREE, Stop, capture, check_free, git,
                    git_text, locked, main, remove, say, show)

STATE = "vthreads-state.json"           # in the tree's .git
GENERATED_SUBJECT = "generated: files made by CPython's own tools"
OVERLAY_SUBJECT = "overlay: new files of virtual threads"

# Raise this when assembling changes in a way that must replace existing trees.
RECIPE = 1


# Inputs

def series(release=None):
    """The patches in the order in which they apply.

    patches/<version>/NAME stands in for patches/NAME on that release: for code that
    is not the same there, which no offset can make up for.
    """
    patches = sorted(PATCHES.glob("*.patch"))
    if release is None:
        return patches
    variants = [PATCHES / release.version / patch.name for patch in patches]
    return [variant if variant.is_file() else patch
            for variant, patch in zip(variants, patches)]


def overlay_files():
    """Paths, relative to cpython/, of the files that go into CPython's tree."""
    found = []
    for directory, names, files in os.walk(OVERLAY):
        names[:] = sorted(n for n in names if n != "__pycache__")
        for name in sorted(files):
            path = (Path(directory) / name).relative_to(OVERLAY).as_posix()
            if path == "UPSTREAM" or re.search(r"(\.py[co]|~|\.orig|\.rej|\.sw.)$", name):
                continue
            found.append(path)
    return found


def inputs_hash(release, patched):
    """Names everything that determines the content of a tree."""
    digest = hashlib.sha256(f"{RECIPE} {release.sha256} {patched}".encode())
    if patched:
        for name in overlay_files():
            file = OVERLAY / name
            executable = bool(file.stat().st_mode & stat.S_IXUSR)
            digest.update(f"\0{name}\0{executable}\0".encode())
            digest.update(file.read_bytes())
        for patch in series(release):
            digest.update(f"\0{patch.name}\0".encode())
            digest.update(patch.read_bytes())
    return digest.hexdigest()


# Assembly

def has_upstream(release):
    """Is the release unpacked already?  Then its tarball is not needed any more."""
    try:
        complete = BUILD / f"upstream-{release.version}.git" / "complete"
        return complete.read_text().strip() == release.sha256
    except OSError:
        return False


def upstream_repository(release, tarball):
    """A bare repository with the release as its only commit; made once."""
    place = BUILD / f"upstream-{release.version}.git"
    if has_upstream(release):
        return place
    remove(place)
    with tempfile.TemporaryDirectory(prefix=".upstream-", dir=BUILD) as directory:
        show(["tar", "-xJf", tarball])
        work = Path(directory) / "work"
        work.mkdir()
        capture(["tar", "-xJf", tarball, "-C", work, "--strip-components=1"])
        repository = Path(directory) / "repository"
        git("init", "-q", "--bare", "-b", "master", repository, cwd=BUILD)
        # Bytes as they are, whatever .gitattributes says of line ends.
        (repository / "info").mkdir(exist_ok=True)
        (repository / "info" / "attributes").write_text("* -text -ident\n")
        at = ("--git-dir", repository, "--work-tree", work)
        git(*at, "add", "-A", "-f", ".", cwd=work)
        git(*at, "commit", "-q", "-m", f"upstream: CPython {release.version}", cwd=work)
        git("gc", "-q", cwd=repository)
        (repository / "complete").write_text(release.sha256 + "\n")
        repository.rename(place)
    return place


def assemble(release, tarball, directory, *, patched=True, only_touched=False):
    """Makes a tree in `directory`, which must not exist.  Raises Stop.

    only_touched: write only the files that the series and the overlay name, and do
    not generate any: enough to see whether the series applies, in a tenth of the time.
    """
    directory = Path(directory)
    repository = upstream_repository(release, tarball)
    git("clone", "-q", "--no-checkout", repository, directory, cwd=BUILD)
    info = directory / ".git" / "info"
    info.mkdir(exist_ok=True)
    (info / "attributes").write_text("* -text -ident\n")
    # The interpreter of an out-of-tree build writes these beside the library.
    (info / "exclude").write_text("__pycache__/\n*.pyc\n")
    if only_touched:
        git("sparse-checkout", "set", "--no-cone", "--stdin", cwd=directory,
            input="".join(f"/{path}\n" for path in touched(release)).encode())
    git("checkout", "-q", "master", cwd=directory)
    git("tag", "upstream", cwd=directory)
    if patched:
        _overlay(directory, release)
        _apply(directory, release)
        if not only_touched:
            _generate(directory)
    return directory


def touched(release):
    """Paths that the overlay or a patch names."""
    found = set(overlay_files())
    for patch in series(release):
        found.update(re.findall(r"^diff --git a/\S+ b/(\S+)$",
                                patch.read_text(errors="replace"), re.M))
    return sorted(found)


def _overlay(directory, release):
    for name in overlay_files():
        target = directory / name
        if os.path.lexists(target):
            raise Stop(f"cpython/{name} would replace a file of CPython "
                       f"{release.version}; changes to existing files are patches")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(OVERLAY / name, target)     # changed now, for make
    git("add", "-A", "-f", ".", cwd=directory)
    git("commit", "-q", "--allow-empty", "-m", OVERLAY_SUBJECT, cwd=directory)
    git("tag", "overlay", cwd=directory)


def _apply(directory, release):
    for patch in series(release):
        done = git("am", "-q", "--no-3way", "--keep-cr", "--committer-date-is-author-date",
                   patch, cwd=directory, check=False)
        if done.returncode:
            text = (done.stderr + done.stdout).decode(errors="replace")
            error = re.search(r"^error: (.*)$", text, re.M)
            raise Stop(f"patches/{patch.relative_to(PATCHES)} does not apply to CPython "
                       f"{release.version}: "
                       f"{error.group(1) if error else text.strip()[:200]}")
    git("tag", "series", cwd=directory)


def _generate(directory):
    changed = git_text("diff", "--name-only", "upstream", "HEAD", cwd=directory)
    regen.regenerate(directory, changed.splitlines())
    git("add", "-A", ".", cwd=directory)
    if git("diff", "--cached", "--quiet", cwd=directory, check=False).returncode:
        git("commit", "-q", "-m", GENERATED_SUBJECT, cwd=directory)


# The tree in its place

def state(place):
    try:
        return json.loads((place / ".git" / STATE).read_text())
    except (OSError, ValueError):
        return {}


def content(place):
    """The id of the work tree's content as it is now, uncommitted edits included."""
    with tempfile.TemporaryDirectory(prefix="vthreads-index-") as directory:
        env = {"GIT_INDEX_FILE": f"{directory}/index"}
        shutil.copy2(place / ".git" / "index", f"{directory}/index")
        git("add", "-A", ".", cwd=place, env=env)
        return git("write-tree", cwd=place, env=env).stdout.decode().strip()


def _keep_times(old, old_content, new):
    """Gives files of `new` whose content is that of `old` the old modification time."""
    def blobs(place, tree):
        listing = git("ls-tree", "-r", "-z", tree, cwd=place).stdout.decode()
        return dict(reversed(line.split("\t", 1)) for line in listing.split("\0") if line)

    before = blobs(old, old_content)
    for path, blob in blobs(new, "HEAD").items():
        if before.get(path) == blob and not (new / path).is_symlink():
            times = (old / path).stat()
            os.utime(new / path, ns=(times.st_atime_ns, times.st_mtime_ns))
    git("update-index", "-q", "--refresh", cwd=new, check=False)


def install(release, tarball, place=TREE, *, patched=True):
    """Makes `place` what the inputs say; returns True when it was replaced."""
    place = Path(place)
    inputs = inputs_hash(release, patched)
    recorded = state(place)
    if recorded.get("inputs") == inputs:
        return False
    check_free()
    remove_leftovers()
    say(f"assembling {place.relative_to(BUILD.parent)}: CPython {release.version}"
        + (f", {len(overlay_files())} new files, {len(series())} patches"
           if patched else ""))
    with tempfile.TemporaryDirectory(prefix=".tree-", dir=BUILD) as directory:
        new = assemble(release, tarball, Path(directory) / "tree", patched=patched)
        made = git_text("rev-parse", "HEAD^{tree}", cwd=new)
        if (place / ".git").is_dir():
            now = content(place)
            if now not in (recorded.get("content"), made):
                raise Stop(f"{place} has edits that are neither in cpython/ nor in "
                           "patches/: ./build.sh sync, ./build.sh refresh, or remove it")
            _keep_times(place, now, new)
        (new / ".git" / STATE).write_text(json.dumps(
            {"inputs": inputs, "content": made, "version": release.version,
             "series": [p.name for p in series()] if patched else []}))
        if place.exists():
            place.rename(Path(directory) / "old")
        new.rename(place)
    return True


def remove_leftovers():
    """What a killed run has left behind."""
    for path in [*BUILD.glob(".tree-*"), *BUILD.glob(".upstream-*")]:
        remove(path)


def prepare(source=None, version=None, *, patched=True):
    """Source and tree for a build; returns (release, place of the tree)."""
    place = TREE if patched else BUILD / "tree-stock"
    with locked("tree"):
        release = upstream.release(version) if version else upstream.releases()[0]
        tarball = None
        if source or not has_upstream(release):
            release, tarball = fetch.get(source, version)
        install(release, tarball, place, patched=patched)
    return release, place


def _main():
    parser = argparse.ArgumentParser(prog="build.sh tree",
                                     description=__doc__.splitlines()[0])
    parser.add_argument("--source")
    parser.add_argument("--cpython", metavar="VERSION")
    parser.add_argument("--stock", action="store_true",
                        help="unpatched, in build/tree-stock")
    options = parser.parse_args()
    release, place = prepare(options.source, options.cpython, patched=not options.stock)
    print(f"CPython {release.version} {place}")


if __name__ == "__main__":
    main(_main)

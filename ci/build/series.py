#!/usr/bin/env python3
"""The patch queue: sync, refresh, apply-check, bump.

build/tree is where one edits.  Its edits go back in two ways:

    sync       new files (what upstream does not have)     -> cpython/
    refresh    commits to upstream's files, one a patch    -> patches/

Both round-trip byte for byte: a tree that is assembled from their results has the same
content, and refreshing it gives the same patches.

The patches are made on the first release of cpython/UPSTREAM.  Where a patch has to be
another one on an older release, that one stands in patches/<version>/.  It is made in
the same way, in a tree of that release (./build.sh tree --cpython VERSION).
"""

import argparse
import os
import re
import tempfile
from pathlib import Path

import fetch
import regen
import tree
import upstream
from common import (BUILD, OVERLAY, PATCHES, ROOT, TREE, Stop, git, git_text, locked,
                    main, remove, say, show)

# Fixed bytes for fixed commits: no hash of this repository, no version of git.
FORMAT = ["--zero-commit", "--no-signature", "--full-index", "-N"]


def _paths(*args):
    return [p for p in git(*args, cwd=TREE).stdout.decode(
        "utf-8", "surrogateescape").split("\0") if p]


def _need_tree():
    if not (TREE / ".git").is_dir():
        raise Stop("there is no build/tree: ./build.sh tree makes it")


# sync

def sync():
    """Brings new files of build/tree, edited, added or removed, to cpython/."""
    _need_tree()
    of_upstream = set(_paths("ls-tree", "-r", "-z", "--name-only", "upstream"))
    in_overlay = {p: blob for blob, p in _blobs("overlay") if p not in of_upstream}
    now = {p for p in _paths("ls-files", "-z", "--cached", "--others",
                             "--exclude-standard")
           if p not in of_upstream and (TREE / p).is_file()
           and not (regen.is_generated(p) and p not in in_overlay)}
    changes = []
    for path in sorted(now | set(in_overlay)):
        before = in_overlay.get(path)
        here = _blob(OVERLAY / path)
        there = _blob(TREE / path) if path in now else None
        if there == before or there == here:
            continue
        if here != before:
            raise Stop(f"{path} was edited in build/tree and in cpython/; merge it into "
                       "one of them by hand")
        changes.append((path, there))
    for path, there in changes:
        target = OVERLAY / path
        if there is None:
            show(["rm", target])
            target.unlink()
        else:
            show(["cp", TREE / path, target])
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(target.name + ".sync~")
            temporary.write_bytes((TREE / path).read_bytes())
            temporary.chmod((TREE / path).stat().st_mode & 0o777)
            temporary.replace(target)
    say(f"sync: {len(changes)} files changed in cpython/")


def _blobs(commit):
    listing = git("ls-tree", "-r", "-z", commit, cwd=TREE).stdout.decode()
    for line in listing.split("\0"):
        if line:
            head, path = line.split("\t", 1)
            yield head.split()[2], path


def _blob(path):
    if not path.is_file():
        return None
    return git("hash-object", "--no-filters", path, cwd=TREE).stdout.decode().strip()


# refresh

def commits(place):
    """The commits of a tree that are patches, oldest first."""
    lines = git_text("log", "--reverse", "--format=%H %s", "overlay..HEAD",
                     cwd=place).splitlines()
    return [line.split(" ", 1)[0] for line in lines
            if line.split(" ", 1)[1] != tree.GENERATED_SUBJECT]


def export(place, directory):
    """Writes a tree's commits as patches, named by their `Patch:` trailers."""
    of_upstream = set(git_text("ls-tree", "-r", "--name-only", "upstream",
                               cwd=place).splitlines())
    made = []
    for commit in commits(place):
        subject = git_text("log", "-1", "--format=%s", commit, cwd=place)
        touched = git_text("diff-tree", "-r", "--name-only", "--no-commit-id", commit,
                           cwd=place).splitlines()
        new = [p for p in touched if p not in of_upstream]
        if new and len(new) == len(touched):
            say(f"refresh: '{subject}' has new files only: left to ./build.sh sync")
            continue
        if new:
            raise Stop(f"'{subject}' has the new file {new[0]}; new files are not "
                       "patched but stand in cpython/: take it out of the commit, then "
                       "./build.sh sync")
        names = re.findall(r"^Patch: (\S+)$",
                           git_text("log", "-1", "--format=%B", commit, cwd=place), re.M)
        if len(names) != 1 or not re.fullmatch(r"\d{4}-[a-z0-9-]+", names[0]):
            raise Stop(f"'{subject}' needs one trailer 'Patch: NNNN-layer-name'")
        name = names[0] + ".patch"
        if made and name <= made[-1]:
            raise Stop(f"{name} comes after {made[-1]} in build/tree; patches apply in "
                       "the order of their names")
        text = git("format-patch", "-1", "--stdout", *FORMAT, commit, cwd=place).stdout
        (directory / name).write_bytes(text)
        made.append(name)
    return made


def refresh():
    """Exports the commits of build/tree to patches/."""
    _need_tree()
    of_upstream = set(_paths("ls-tree", "-r", "-z", "--name-only", "upstream"))
    dirty = [p for p in _paths("diff", "--name-only", "-z", "HEAD")
             if p in of_upstream and not regen.is_generated(p)]
    if dirty:
        raise Stop(f"build/tree: {dirty[0]} is not committed: commit it there, or fold "
                   "it into its patch (git commit --fixup, git rebase -i --autosquash)")
    recorded = tree.state(TREE)
    newest = upstream.releases()[0].version
    version = recorded.get("version", newest)
    if version != newest:
        return refresh_variants(version)
    PATCHES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".refresh-", dir=BUILD) as directory:
        directory = Path(directory)
        made = export(TREE, directory)
        changed = 0
        for name in made:
            old, new = PATCHES / name, (directory / name).read_bytes()
            if old.is_file() and old.read_bytes() == new:
                continue
            show(["git", "format-patch", *FORMAT], note=str(old.relative_to(ROOT)))
            (directory / name).replace(old)
            changed += 1
        for old in tree.series():
            if old.name in made:
                continue
            # A patch that came after this tree was assembled is not one that it dropped.
            if old.name not in recorded.get("series", [old.name]):
                say(f"refresh: {old.relative_to(ROOT)} is newer than build/tree: kept")
                continue
            show(["rm", old.relative_to(ROOT)])
            old.unlink()
            changed += 1
    say(f"refresh: {len(made)} patches, {changed} changed")


def essence(patch):
    """A patch without what differs between releases to which it applies as it is."""
    text = re.sub(rb"^index .*$|^@@ .*$", b"", patch, flags=re.M)
    return text


def refresh_variants(version):
    """Exports to patches/<version>/ what is not the same patch as in patches/."""
    place, kept = PATCHES / version, 0
    with tempfile.TemporaryDirectory(prefix=".refresh-", dir=BUILD) as directory:
        directory = Path(directory)
        made = export(TREE, directory)
        for name in made:
            if not (PATCHES / name).is_file():
                raise Stop(f"{name} is not in patches/: a patch is made on CPython "
                           f"{upstream.releases()[0].version} first")
            new, variant = (directory / name).read_bytes(), place / name
            if essence(new) == essence((PATCHES / name).read_bytes()):
                if variant.is_file():
                    show(["rm", variant.relative_to(ROOT)])
                    variant.unlink()
                continue
            kept += 1
            if not variant.is_file() or variant.read_bytes() != new:
                show(["git", "format-patch", *FORMAT], note=str(variant.relative_to(ROOT)))
                place.mkdir(exist_ok=True)
                (directory / name).replace(variant)
    say(f"refresh: {len(made)} patches for {version}, {kept} of them are its own")


# apply-check, bump

def check_release(release, tarball):
    """Applies the series to a release and exports it again.  Returns the complaints."""
    complaints = []
    with tempfile.TemporaryDirectory(prefix=".tree-", dir=BUILD) as directory:
        directory = Path(directory)
        try:
            place = tree.assemble(release, tarball, directory / "tree",
                                  only_touched=True)
        except Stop as stop:
            return [str(stop)]
        # Only on the release that a patch was made on are the bytes the same again:
        # elsewhere its line numbers differ.
        newest = release.version == upstream.releases()[0].version
        out = directory / "out"
        out.mkdir()
        try:
            export(place, out)
        except Stop as stop:
            return [str(stop)]
        for patch in tree.series(release):
            again, shown = out / patch.name, patch.relative_to(ROOT)
            if not again.is_file():
                complaints.append(f"{shown}: its trailer 'Patch:' names another file")
            elif (newest or patch.parent != PATCHES) and \
                    again.read_bytes() != patch.read_bytes():
                complaints.append(f"{shown}: exporting it again gives other bytes; "
                                  "./build.sh refresh")
    return complaints


def apply_check(download=True):
    """Every release of UPSTREAM; returns (releases checked, complaints)."""
    checked, complaints = [], []
    with locked("tree"):
        tree.remove_leftovers()
        for release in upstream.releases():
            tarball = None
            if not tree.has_upstream(release):
                tarball = fetch.download(release) if download else fetch.cached(release)
            if tarball is None and not tree.has_upstream(release):
                say(f"not checked: CPython {release.version} "
                    + ("cannot be had" if download else
                       "is not in the download cache (./build.sh apply-check gets it)"))
                continue
            checked.append(release.version)
            complaints += check_release(release, tarball)
    return checked, complaints


def bump(version, source):
    """Tries the series on a new release; adds it to UPSTREAM when it applies."""
    if any(r.version == version for r in upstream.releases()):
        raise Stop(f"cpython/UPSTREAM has {version} already: ./build.sh apply-check")
    if not re.fullmatch(r"3\.13\.\d+", version):
        raise Stop(f"bump {version}: the series is for 3.13.N")
    newest = upstream.releases()[0]
    release = upstream.Release(
        version, url=newest.url.replace(newest.version, version), debian=newest.debian)
    with tempfile.TemporaryDirectory(prefix=".bump-", dir=BUILD) as directory:
        tarball = Path(source) if source else None
        if tarball is not None and not tarball.is_file():
            raise Stop(f"--source {source}: there is no such file")
        for place, function in fetch.PLACES if tarball is None else []:
            try:
                tarball = function(release, directory)
                break
            except Stop as stop:
                say(f"{place}: CPython {version}: {stop}")
        if tarball is None:
            raise Stop(f"no source of CPython {version}: give one with --source FILE")
        release.sha256 = fetch.sha256(tarball)
        say(f"sha256 {release.sha256}: compare it with the release's own")
        with locked("tree"):
            complaints = check_release(release, tarball)
        if complaints:
            remove(BUILD / f"upstream-{version}.git")
            raise Stop(complaints[0])
        kept = fetch.cache_dir() / release.tarball
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_name(f".{kept.name}.{os.getpid()}")
        temporary.write_bytes(Path(tarball).read_bytes())
        temporary.replace(kept)
    entry = (f"version  {version}\nsha256   {release.sha256}\nurl      {release.url}\n"
             f"debian   {' '.join(release.debian)}\n\n")
    text = upstream.FILE.read_text()
    at = re.search(r"^version ", text, re.M).start()
    temporary = upstream.FILE.with_name("UPSTREAM~")
    temporary.write_text(text[:at] + entry + text[at:])
    temporary.replace(upstream.FILE)
    say(f"the series applies to {version}, which is the first of cpython/UPSTREAM now; "
        "next: ./build.sh py, refresh, test")


def _main():
    parser = argparse.ArgumentParser(prog="build.sh", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("sync")
    verbs.add_parser("refresh")
    verbs.add_parser("apply-check")
    parse_bump = verbs.add_parser("bump")
    parse_bump.add_argument("version")
    parse_bump.add_argument("--source", metavar="FILE")
    options = parser.parse_args()
    BUILD.mkdir(exist_ok=True)

    if options.verb == "sync":
        with locked("tree"):
            sync()
    elif options.verb == "refresh":
        with locked("tree"):
            refresh()
    elif options.verb == "bump":
        bump(options.version, options.source)
    else:
        checked, complaints = apply_check()
        for complaint in complaints:
            say(complaint)
        if complaints or not checked:
            raise Stop(f"apply-check: {len(complaints)} complaints")
        print(f"apply-check: {len(tree.series())} patches apply to "
              + " and ".join(checked))


if __name__ == "__main__":
    main(_main)

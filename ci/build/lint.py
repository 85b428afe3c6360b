#!/usr/bin/env python3
"""Checks the rules of the patch queue, the overlay, the library and the scripts.

Each rule is a function below that yields one line a breach; its docstring says why the
rule stands.  Nothing is skipped without a line that says what could not be checked.
"""

import ast
import json
import re
import subprocess
import urllib.parse
from functools import cache
from pathlib import Path

import aptsource
import fetch
import regen
import series
import tree
import upstream
from common import (BUILD, OVERLAY, PATCHES, ROOT, Stop, capture, git_text, locked,
                    main, say)

# From the bottom up; a layer names itself and those before it.
LAYERS = ["base", "arch", "stack", "cont", "cpool"]
TRAILERS = ["Patch", "Touches", "Needs", "Upstream", "Test"]
AUTHOR = "Virtual threads for Python <vthreads@localhost>"


@cache
def files():
    """Our own text files: what git has or would add."""
    if not (ROOT / ".git").exists():    # unpacked from an archive
        return sorted(p for p in ROOT.rglob("*") if p.is_file()
                      and p.relative_to(ROOT).parts[0] != "build"
                      and "__pycache__" not in p.parts)
    names = git_text("ls-files", "-z", "--cached", "--others", "--exclude-standard",
                     cwd=ROOT).split("\0")
    return [ROOT / n for n in sorted(set(names)) if n and (ROOT / n).is_file()]


@cache
def text(path):
    data = path.read_bytes()
    return None if b"\0" in data else data.decode("utf-8", "replace")


def name(path):
    return path.relative_to(ROOT).as_posix()


def numbered(path):
    """(line number, line) of a file; of a patch only the lines that it adds."""
    content = text(path)
    for number, line in enumerate((content or "").splitlines(), 1):
        if path.suffix != ".patch" or (line.startswith("+") and line[:3] != "+++"):
            yield number, line


@cache
def upstream_names(version):
    """Paths of a release, or None when its source is not at hand."""
    release = upstream.release(version)
    if not tree.has_upstream(release):
        tarball = fetch.cached(release)
        if tarball is None:
            return None
        with locked("tree"):
            tree.upstream_repository(release, tarball)
    return set(git_text("ls-tree", "-r", "--name-only", "master",
                        cwd=BUILD / f"upstream-{version}.git").splitlines())


def all_patches():
    """The series, and what stands in for parts of it on older releases."""
    return tree.series() + sorted(PATCHES.glob("*/*.patch"))


def overlay_is_new():
    """The overlay has new files only: what exists upstream is changed by a patch."""
    for release in upstream.releases():
        names = upstream_names(release.version)
        if names is None:
            say(f"not checked: overlay against CPython {release.version}, "
                "whose source is not in the download cache")
            continue
        for path in tree.overlay_files():
            if path in names:
                yield f"cpython/{path} is a file of CPython {release.version}"


def overlay_is_built():
    """What no Makefile names is not compiled, or not recompiled when it changes."""
    # make itself expands the lists; with the overlay as srcdir it finds our files only.
    listed = capture(
        ["make", "-s", "-f", "-", f"srcdir={OVERLAY}", "list"],
        input=f"all: list\ninclude {OVERLAY}/Makefile.vthread\n"
              "list:\n\t@echo $(VTHREAD_SRCS) $(VTHREAD_HEADERS)\n".encode())
    built = set(listed.stdout.decode().split())
    added = "\n".join(line for p in tree.series() for _, line in numbered(p))
    for path in tree.overlay_files():
        if not re.match(r"(Include/.*\.h|(Python|Objects)/.*\.[ch])$", path):
            continue
        stem = path.removesuffix(".c") + ".o" if path.endswith(".c") else path
        if str(OVERLAY / path) not in built and stem not in added:
            yield (f"cpython/{path} is neither in Makefile.vthread nor in a patch of "
                   "Makefile.pre.in")


def patches_are_callouts():
    """A patch changes existing sources; new and generated files stand elsewhere."""
    for patch in all_patches():
        content = text(patch)
        if content is None or "GIT binary patch" in content:
            yield f"{name(patch)}: binary"
            continue
        if re.search(r"^(new file mode|deleted file mode|rename from)", content, re.M):
            yield f"{name(patch)}: adds, removes or renames a file"
        for path in re.findall(r"^diff --git a/(\S+) ", content, re.M):
            if regen.is_generated(path):
                yield f"{name(patch)}: changes {path}, which is generated"


def patches_are_named():
    """Name and trailers say what a patch is for, and what it needs."""
    known = {p.stem for p in tree.series()}
    versions = [release.version for release in upstream.releases()[1:]]
    for stray in sorted(PATCHES.iterdir()):
        if stray not in tree.series() and stray.name not in ("README", *versions):
            yield f"{name(stray)}: neither a patch, nor the README, nor an older release"
    for patch in all_patches():
        if patch.stem not in known:
            yield f"{name(patch)}: stands in for no patch of the series"
        content = text(patch) or ""
        head = content.split("\n---\n", 1)[0]
        if not re.fullmatch(r"\d{4}-[a-z]+-[a-z0-9-]+", patch.stem):
            yield f"{name(patch)}: a name is NNNN-layer-name.patch"
        for trailer in TRAILERS:
            if len(re.findall(rf"^{trailer}: \S", head, re.M)) != 1:
                yield f"{name(patch)}: one trailer '{trailer}:' is needed"
        if f"\nPatch: {patch.stem}\n" not in head + "\n":
            yield f"{name(patch)}: its trailer 'Patch:' names another file"
        if f"\nFrom: {AUTHOR}\n" not in head:
            yield f"{name(patch)}: the author is {AUTHOR}"
        needs = re.search(r"^Needs: (.*(?:\n[ \t]+.*)*)", head, re.M)
        for need in re.findall(r"\b\d{4}-[a-z0-9-]+", needs.group(1) if needs else ""):
            if need not in known:
                yield f"{name(patch)}: needs {need}, which is not there"
            elif need >= patch.stem:
                yield f"{name(patch)}: needs {need}, which comes later"


def patches_apply():
    """Without fuzz, to every release, and exporting them again gives the same bytes."""
    yield from series.apply_check(download=False)[1]


def layers():
    """Dependencies go down only: a lower layer never names a higher one."""
    base = ROOT / "continuations"
    public = {"continuations/cont.h": "cont", "continuations/cpool.h": "cpool"}
    for path in files():
        if not path.is_relative_to(base / "src") or path.suffix not in (".c", ".h", ".S"):
            continue
        layer = path.relative_to(base / "src").parts[0]
        if layer not in LAYERS:
            yield f"{name(path)}: {layer} is no layer ({', '.join(LAYERS)})"
            continue
        for number, line in numbered(path):
            include = re.match(r'\s*#\s*include\s+[<"]([^>"]+)[>"]', line)
            if not include:
                continue
            target = public.get(include.group(1), include.group(1).split("/")[0])
            if target in LAYERS and LAYERS.index(target) > LAYERS.index(layer):
                yield f"{name(path)}:{number}: {layer} includes {include.group(1)}"


def library_has_no_python():
    """The library builds and is tested without CPython."""
    for path in files():
        if path.is_relative_to(ROOT / "continuations") and \
                path.suffix in (".c", ".h", ".S"):
            for number, line in numbered(path):
                found = re.search(r"\b_?Py(?!thon\b)\w*|\bpycore_\w+", line)
                if found:
                    yield f"{name(path)}:{number}: {found.group(0)} below continuations/"


def no_machine():
    """Nothing names the machine or the mirror that it was made on."""
    hosts = {urllib.parse.urlsplit(uri).hostname for _, uri in aptsource.mirrors()}
    private = [re.compile(r"(?<![\w.$}])/(?:work|root)/")]
    private += [re.compile(re.escape(h)) for h in hosts if h]
    for path in files():
        for number, line in numbered(path):
            for pattern in private:
                if pattern.search(line):
                    yield f"{name(path)}:{number}: names this machine: {line.strip()}"


def text_is_clean():
    """Lines end with a newline alone, the last one too."""
    for path in files():
        content = text(path)
        if content is None or path.suffix == ".patch" or not content:
            continue
        if not content.endswith("\n"):
            yield f"{name(path)}: no newline at the end"
        if "\r" in content:
            yield f"{name(path)}: carriage returns"


def scripts_parse():
    """A script that is not run here is at least read."""
    for path in files():
        content = text(path) or ""
        first = content.split("\n", 1)[0]
        if first.startswith("#!") and "bash" in first or path.suffix == ".sh":
            done = subprocess.run(["bash", "-n", path], stderr=subprocess.PIPE, text=True)
            if done.returncode:
                yield f"{name(path)}: {done.stderr.strip().splitlines()[0]}"
        elif path.suffix == ".py" or first.startswith("#!") and "python" in first:
            try:
                ast.parse(content, name(path))
            except SyntaxError as error:
                # The overlay is for a newer Python than the one that may run this.
                yield f"{name(path)}:{error.lineno}: {error.msg}"
        elif path.suffix == ".json":
            try:
                json.loads(content)
            except ValueError as error:
                yield f"{name(path)}: {error}"
        if path.parent == ROOT / "ci" and first.startswith("#!") and \
                not path.stat().st_mode & 0o100:
            yield f"{name(path)}: not executable"


RULES = [overlay_is_new, overlay_is_built, patches_are_callouts, patches_are_named,
         patches_apply, layers, library_has_no_python, no_machine, text_is_clean,
         scripts_parse]


def _main():
    BUILD.mkdir(exist_ok=True)
    failed = 0
    for rule in RULES:
        try:
            breaches = list(rule())
        except Stop as stop:
            breaches = [str(stop)]
        for breach in breaches:
            print(f"{rule.__name__}: {breach}")
        failed += bool(breaches)
    print(f"{len(RULES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    main(_main)

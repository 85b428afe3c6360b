"""Gets a source tarball from Debian's archive, through this machine's own mirror.

Problem: a machine that can install packages has a mirror that it reaches, while
python.org may be out of reach; but its apt setting seldom names source packages, nor
the release that has the version we want.  So a private apt setting is made in a
temporary directory, from the addresses in the machine's own: nothing of the machine
is changed, and no mirror is named here.
"""

import re
import tempfile
from pathlib import Path

from common import Stop, capture, show

LISTS = Path("/etc/apt")


def _one_line(path):
    """deb [options] uri suite component...   ->   (options, uri, suite, components)"""
    for line in path.read_text(errors="replace").splitlines():
        match = re.match(r"\s*deb(?:-src)?\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*)",
                         line.split("#", 1)[0])
        if match:
            options, uri, suite, components = match.groups()
            signed = re.search(r"signed-by=(\S+)", options or "")
            yield (signed.group(1) if signed else None), uri, suite, components.split()


def _deb822(path):
    for stanza in re.split(r"\n\s*\n", path.read_text(errors="replace")):
        fields, key = {}, None
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in " \t" and key:
                fields[key] += " " + line.strip()
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        signed = fields.get("signed-by")
        if signed and not signed.startswith("/"):
            signed = None               # an embedded key: apt's own keyring then
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield signed, uri, suite, fields.get("components", "").split()


def mirrors():
    """(keyring or None, uri) of each Debian archive that this machine uses."""
    found = []
    for path in [LISTS / "sources.list", *sorted(LISTS.glob("sources.list.d/*"))]:
        reader = {".list": _one_line, ".sources": _deb822}.get(path.suffix)
        if reader is None or not path.is_file():
            continue
        for signed, uri, suite, components in reader(path):
            # Security and update archives don't have other releases' sources.
            if "main" not in components or "-" in suite or suite.endswith("/"):
                continue
            if (signed, uri) not in found:
                found.append((signed, uri))
    return found


def fetch(release, directory):
    """Downloads `release` into `directory`; returns the file.  Raises Stop."""
    if not release.debian:
        raise Stop("no Debian package is known")
    package, suites = release.debian[0], release.debian[1:]
    archives = mirrors()
    if not archives:
        raise Stop("this machine's apt setting names no Debian archive")
    reason = ""
    for signed, uri in archives:
        for suite in suites:
            try:
                return _fetch_from(release, package, signed, uri, suite, directory)
            except Stop as stop:
                reason = str(stop)
    raise Stop(reason)


def _fetch_from(release, package, signed, uri, suite, directory):
    with tempfile.TemporaryDirectory(prefix="vthreads-apt-") as private:
        private = Path(private)
        private.chmod(0o755)            # apt's own user reads here
        for name in ("lists/partial", "cache/archives/partial"):
            (private / name).mkdir(parents=True)
        option = f"[signed-by={signed}] " if signed else ""
        sources = private / "sources.list"
        sources.write_text(f"deb-src {option}{uri} {suite} main\n")
        apt = ["-q", "-o", f"Dir::Etc::SourceList={sources}",
               "-o", "Dir::Etc::SourceParts=/dev/null",
               "-o", f"Dir::State::Lists={private}/lists",
               "-o", f"Dir::Cache={private}/cache",
               "-o", "Acquire::Languages=none",
               "-o", "APT::Sandbox::User=root"]
        show(["apt-get", "update"], note=f"private setting: deb-src, {suite} main")
        done = capture(["apt-get", *apt, "update"], check=False)
        complaint = _first_complaint(done)
        if done.returncode or complaint:
            raise Stop(f"{suite}: {complaint or 'apt-get update failed'}")

        wanted = None
        known = capture(["apt-cache", *apt, "showsrc", "--only-source", package],
                        check=False).stdout.decode(errors="replace")
        for version in re.findall(r"^Version: (\S+)$", known, re.M):
            if version.rsplit("-", 1)[0] == release.version:
                wanted = version
        if wanted is None:
            raise Stop(f"{suite} has no {package} {release.version}")
        command = ["source", "--download-only", "--tar-only", f"{package}={wanted}"]
        show(["apt-get", *command])
        capture(["apt-get", *apt, *command], cwd=directory)
    files = sorted(Path(directory).glob(f"{package}_{release.version}.orig.tar.xz"))
    if not files:
        raise Stop(f"{package} {wanted} has no .orig.tar.xz")
    return files[0]


def _first_complaint(done):
    for line in (done.stdout + done.stderr).decode(errors="replace").splitlines():
        if re.match(r"(Err|E):", line):
            # The address is the machine's own business.
            return re.sub(r"\S+://\S+", "the mirror", line).strip()
    return ""

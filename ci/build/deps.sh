#!/bin/bash
# The platform, the tools and the packages that the build needs.
#
# Problem: a newcomer types one command on a bare machine.  What is missing is
# installed if we may (root, or sudo without a password); else the one command that
# does it is printed.  Where there is no apt, only the tools themselves are looked for.
# When nothing is missing, this prints nothing and takes a fraction of a second.
#
#   (no argument)       what the build needs
#   --with-test-tools   also what some checks use; see test_packages for what is lost without
#   --check-tools       look for git and python3 only; install nothing
set -euo pipefail

stop() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

[ "$(uname -s)" = Linux ] || stop "this system is $(uname -s); only Linux is supported"
machine=$(uname -m)
case "$machine" in
    x86_64 | aarch64 ) ;;
    * ) stop "this processor is $machine; only x86_64 and aarch64 are supported" ;;
esac

# A compiler, the two build systems, and the headers that the standard library's
# extension modules are built against.
build_packages=(
    build-essential cmake ninja-build ccache git xz-utils pkg-config python3
    ca-certificates libssl-dev zlib1g-dev libbz2-dev liblzma-dev libffi-dev
    libsqlite3-dev libreadline-dev libncurses-dev libgdbm-dev
    libgdbm-compat-dev uuid-dev tk-dev libjemalloc-dev
)
# gdb: native stacks of a test that hangs; without it the report has none.  valgrind, clang,
# and qemu-user with its compiler: the library's tests, which ci/lib.sh runs where these are,
# and names where they are not.  Without the others the checks that use them fail:
# python3-venv (numpy's), universal-ctags (where C functions begin and end: check-blocking),
# redis-tools and xvfb (programs of ci/check-programs).
test_packages=(gdb valgrind clang python3-venv universal-ctags redis-tools xvfb)
if [ "$machine" = x86_64 ]; then
    test_packages+=(qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
fi

check_tools() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || stop "the tool '$tool' is missing"
    done
}

check_python() {
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        stop "python3 is $(python3 -V 2>&1); the build scripts need 3.11 or newer"
}

mode=${1:-}
if [ "$mode" = --check-tools ]; then
    check_tools git python3 xz
    check_python
    exit 0
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    check_tools gcc make cmake ninja git xz python3
    check_python
    exit 0
fi

packages=("${build_packages[@]}")
[ "$mode" = --with-test-tools ] && packages+=("${test_packages[@]}")

# Those of the missing packages that only tests need.
only_for_tests() {
    local package
    local found=()
    for package in "${missing[@]}"; do
        case " ${test_packages[*]} " in
            *" $package "* ) found+=("$package") ;;
        esac
    done
    echo "${found[*]}"
}

missing=()
installed=" $(dpkg-query -W -f '${db:Status-Status}=${Package} ' 2>/dev/null) "
for package in "${packages[@]}"; do
    case "$installed" in
        *" installed=$package "* ) ;;
        * ) missing+=("$package") ;;
    esac
done

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ]; then
        as_root=()
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root=(sudo -n)
    elif check_tools gcc make cmake ninja git xz python3 && [ "$mode" = --with-test-tools ] &&
            [ "$(only_for_tests)" = "${missing[*]}" ]; then
        echo "build.sh: not installed, some checks will fail or be left out: ${missing[*]}" >&2
        exit 0
    else
        stop "packages are missing; type: sudo apt-get install -y ${missing[*]}"
    fi
    as_root+=(env "DEBIAN_FRONTEND=noninteractive")
    printf '+ apt-get install %s\n' "${missing[*]}" >&2
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    "${as_root[@]}" apt-get update -q >"$log" 2>&1 ||
        printf 'build.sh: apt-get update: %s\n' "$(grep -m1 -E '^(E|W|Err)' "$log" || echo failed)" >&2
    if ! "${as_root[@]}" apt-get install -y -q --no-install-recommends \
            "${missing[@]}" >"$log" 2>&1; then
        stop "apt-get install failed: $(grep -m1 '^E:' "$log" || tail -n1 "$log")"
    fi
fi
check_tools gcc make cmake ninja git xz python3
check_python

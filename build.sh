#!/bin/bash
# Builds, tests and maintains "virtual threads for Python".
#
# This file only names the verbs and says how each is carried out; what they do
# stands in ci/build/ (one noun a file) and, for checks and benchmarks, in ci/.
# Every step prints the command that it runs.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"

usage() {
    cat <<'EOF'
usage: ./build.sh VERB [options]

Build
  --free-threading   everything, from the sources to the demo  [BUILD OPTIONS]
  lib                the C library alone and its tests; seconds  [--preset]
  py                 the interpreter  [BUILD OPTIONS]
  deps               install the packages that the build needs

Test
  test               all tests; the last line is "N passed, N failed"
                     [--only NAME,...] [--list]
  lint               rules of patches/, cpython/ and continuations/; seconds
  stress             random programs on virtual and on platform threads
                     [--seed N] [--seconds N] [--replay FILE]
  soak               two servers under load, with clients that misbehave
                     [--minutes N]
  san asan|tsan|ubsan   library tests and interpreter under a sanitizer
  ci                 what the CI runs: deps, test

Patch queue
  tree               assemble build/tree: upstream, cpython/, patches/
  sync               bring edits of new files in build/tree back to cpython/
  refresh            export the commits of build/tree to patches/
  apply-check        apply the series to every version of cpython/UPSTREAM
  bump VERSION       try the series on another release and add it to UPSTREAM
                     [--source FILE]

Measure
  bench              spawn, yield, ping-pong, memory, echo server
  pyperformance      stock against patched builds  [--quick]

BUILD OPTIONS
  --preset NAME      release (default), release-pgo, debug, hard, asan, tsan,
                     ubsan, stock, stock-gil, stock-debug, stock-tsan
  --malloc NAME      default or jemalloc
  --source FILE      CPython's source, Python-3.13.15.tar.xz (sha256 is checked)
  --cpython VERSION  a version of cpython/UPSTREAM (the first one by default)
  --no-demo          stop before the demo

Environment: JOBS (processors), CC (gcc), XDG_CACHE_HOME (downloads).
EOF
}

stop() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }
show() { printf '+ %s\n' "$*" >&2; "$@"; }

# A verb whose script is not there says so; it never pretends to have run.
need_script() {
    [ -x "$1" ] || stop "$2: $1 does not exist yet"
}

tool() { show python3 "ci/build/$1.py" "${@:2}"; }

verb=${1:-}
[ $# -gt 0 ] && shift
case "$verb" in
    "" )
        usage >&2; exit 1 ;;
    -h | --help | help )
        usage; exit 0 ;;
esac

# The platform, the tools and the packages; prints nothing when all is there.
case "$verb" in
    lint | sync | refresh ) ci/build/deps.sh --check-tools ;;
    test | ci )             ci/build/deps.sh --with-test-tools ;;
    * )                     ci/build/deps.sh ;;
esac

case "$verb" in
    deps )
        echo "build.sh: all packages are installed" ;;
    --free-threading )
        tool everything "$@" ;;
    lib )
        tool library "$@" ;;
    py )
        tool interpreter "$@" ;;
    test )
        tool checks "$@" ;;
    ci )
        show .ci/run "$@" ;;
    tree )
        tool tree "$@" ;;
    sync | refresh | apply-check | bump )
        tool series "$verb" "$@" ;;
    lint )
        tool lint "$@" ;;
    san )
        case "${1:-}" in
            asan | tsan | ubsan ) ;;
            * ) stop "san: which one? asan, tsan or ubsan" ;;
        esac
        preset=$1; shift
        tool library --preset "$preset"
        tool interpreter --preset "$preset" "$@"
        # Leaks at exit are CPython's own, and not what is looked for.
        export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0:allocator_may_return_null=1}
        if [ "$preset" = tsan ]; then
            show ci/tsan
            show ci/tsan --nasty
        else
            show ci/check-vthreads --python "build/$preset/install/bin/python3"
        fi ;;
    stress )
        need_script ci/stress stress
        show ci/stress "$@" ;;
    soak )
        need_script ci/soak soak
        show ci/soak "$@" ;;
    bench )
        need_script ci/bench bench
        show ci/bench "$@" ;;
    pyperformance )
        need_script ci/pyperformance pyperformance
        show ci/pyperformance "$@" ;;
    * )
        stop "no such verb: $verb (./build.sh --help lists them)" ;;
esac

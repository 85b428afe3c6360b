#!/bin/bash
# Builds and tests the C library alone, in every way it must work.
#
#   ci/lib.sh               all of them, some minutes
#   ci/lib.sh PRESET...     of: release hard asan tsan ubsan ucontext clang aarch64 valgrind
#
# Each preset has its build directory, build/lib-PRESET, so that a second run is quick.  A
# preset whose tools are not installed is not run, and a line says so.  The last line is
# "N passed, N failed"; the exit status is 1 if any failed.
#
#   JOBS=2          processors to use
set -u

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
jobs=${JOBS:-2}
all=(release hard asan tsan ubsan ucontext clang aarch64 valgrind)
passed=0
failed=0
summary=()

have() {
    command -v "$1" > /dev/null 2>&1
}

# Sets `args` to what cmake is given, `slow` to how much less the tests do (they are sized for
# release; what is there for another compiler or another switch does less), `exclude` to tests
# that its emulator cannot run, `parallel` to how many run at once; or `missing`.
choose() {
    args=()
    slow=
    missing=
    exclude=
    parallel=$((jobs * 2))      # most tests wait most of the time
    case $1 in
        release )  args=(-DCMAKE_BUILD_TYPE=Release) ;;
        hard )     args=(-DCMAKE_BUILD_TYPE=Debug -DCONT_HARD=ON) ;;
        asan | tsan )
                   args=(-DCMAKE_BUILD_TYPE=RelWithDebInfo -DCONT_HARD=ON
                         -DCONT_SANITIZE="$1") ;;
        ubsan )    slow=4
                   args=(-DCMAKE_BUILD_TYPE=RelWithDebInfo -DCONT_HARD=ON
                         -DCONT_SANITIZE=ubsan) ;;
        ucontext ) slow=4
                   args=(-DCMAKE_BUILD_TYPE=Debug -DCONT_HARD=ON -DCONT_ARCH=ucontext) ;;
        clang )
            slow=4
            local clang
            clang=$(compgen -c clang | grep -E '^clang(-[0-9]+)?$' | sort -V | head -1)
            if [ -z "$clang" ]; then missing=clang; return; fi
            args=(-DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER="$clang") ;;
        aarch64 )
            if ! have aarch64-linux-gnu-gcc; then missing=aarch64-linux-gnu-gcc; return; fi
            # Debian has called it both ways.
            local qemu=qemu-aarch64
            have $qemu || qemu=qemu-aarch64-static
            have $qemu || { missing="qemu-aarch64"; return; }
            slow=20
            # Children that are forked by a carrier end by assertions in qemu-user 7.2 itself
            # (plugins/core.c, cpu-exec.c); forks by the main thread, cont/fork, work.
            exclude='^cpool/fork$'
            args=(-DCMAKE_BUILD_TYPE=Debug -DCONT_HARD=ON -DCMAKE_SYSTEM_NAME=Linux
                  -DCMAKE_SYSTEM_PROCESSOR=aarch64
                  -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc
                  -DCMAKE_EXE_LINKER_FLAGS=-static -DCONT_EXEC_WRAPPER=$qemu) ;;
        valgrind )
            if ! have valgrind; then missing=valgrind; return; fi
            slow=50
            local supp=$root/continuations/tests/valgrind.supp
            args=(-DCMAKE_BUILD_TYPE=RelWithDebInfo -DCONT_HARD=ON
                  "-DCONT_EXEC_WRAPPER=valgrind;-q;--error-exitcode=99;--fair-sched=yes;--leak-check=no;--suppressions=$supp") ;;
        * )
            echo "lib.sh: no preset '$1'; there are: ${all[*]}" >&2
            exit 2 ;;
    esac
    if have ccache; then
        args+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
    fi
    if have ninja; then
        args+=(-G Ninja)
    fi
}

fail() {
    echo "$1: $2"
    summary+=("$1: $2")
    failed=$((failed + 1))
}

run_preset() {
    local preset=$1 build=$root/build/lib-$1 log
    choose "$preset"
    if [ -n "$missing" ]; then
        echo "not checked: $preset ($missing is not installed)"
        summary+=("$preset: not checked, $missing is not installed")
        return
    fi
    log=$build/ci.log
    mkdir -p "$build"
    echo "=== $preset: cmake -S continuations -B build/lib-$preset ${args[*]}"
    if ! cmake -S "$root/continuations" -B "$build" "${args[@]}" > "$log" 2>&1; then
        cat "$log"
        fail "$preset" "cmake failed"
        return
    fi
    if ! cmake --build "$build" -j "$jobs" > "$log" 2>&1; then
        grep -E -A8 'error|FAILED' "$log" | head -60
        fail "$preset" "build failed"
        return
    fi
    local seconds=$SECONDS
    if [ -n "$slow" ]; then
        export CONT_TEST_SLOW=$slow
    else
        unset CONT_TEST_SLOW
    fi
    if [ -n "$exclude" ]; then
        echo "not checked: $exclude in $preset; see ci/lib.sh"
        summary+=("$preset: not checked, $exclude")
    fi
    ctest --test-dir "$build" -j "$parallel" --output-on-failure ${exclude:+-E "$exclude"} \
        > "$log" 2>&1
    grep -vE ' Passed |^ *Start |^Test project|^Internal ctest|^$' "$log"
    local line bad total
    line=$(grep -E '% tests passed, [0-9]+ tests? failed out of [0-9]+' "$log")
    if ! [[ $line =~ ([0-9]+)\ tests?\ failed\ out\ of\ ([0-9]+) ]]; then
        fail "$preset" "ctest ran nothing"
        return
    fi
    bad=${BASH_REMATCH[1]}
    total=${BASH_REMATCH[2]}
    passed=$((passed + total - bad))
    failed=$((failed + bad))
    summary+=("$preset: $((total - bad)) passed, $bad failed, $((SECONDS - seconds)) s")
}

presets=("$@")
if [ $# -eq 0 ]; then
    presets=("${all[@]}")
fi
for preset in "${presets[@]}"; do
    run_preset "$preset"
done

echo
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

#!/bin/sh
# Runs one test program, in an emulator or not: run_test.sh [WRAPPER...] PROGRAM
#
# After $CONT_TEST_LIMIT seconds (240) it shows where each thread of the program is, by gdb
# where that is installed and allowed, and ends it with SIGABRT.  ctest's own limit is later.
"$@" &
pid=$!
(
    exec > /dev/stderr
    # Not on our pipes: a TERM that comes before the trap leaves it behind, and ctest waits
    # until nobody has them.
    sleep "${CONT_TEST_LIMIT:-240}" > /dev/null 2>&1 &
    sleeper=$!
    trap 'kill $sleeper 2> /dev/null; exit' TERM
    wait $sleeper
    echo "no end after ${CONT_TEST_LIMIT:-240} s: $*"
    for task in /proc/$pid/task/*; do
        echo "thread ${task##*/}: $(cat "$task/wchan" 2> /dev/null)" \
             "$(cat "$task/syscall" 2> /dev/null)"
    done
    if command -v gdb > /dev/null; then
        timeout 30 gdb -p $pid -batch -nx -ex 'thread apply all backtrace 20' 2> /dev/null
    fi
    kill -ABRT $pid
) &
watchdog=$!
# A test that stops itself, or is stopped, must not leave the watchdog.
trap 'kill -TERM $pid $watchdog 2> /dev/null' TERM INT
wait $pid
status=$?
kill -TERM $watchdog 2> /dev/null
wait $watchdog 2> /dev/null
exit $status

#!/bin/sh
# Makes the tree if need be, and runs the boot tests in two halves at the same time: a machine that boots mostly waits.
set -u
python=${1:-.venv/bin/python}
sh tests/boot/make_tree.sh || exit 1
export GPULAUNCH_BOOT=1
log=build/boot/first-half.log
$python -m pytest -p no:cacheprovider tests/boot/test_boot_deadline.py >$log 2>&1 &
first=$!
$python -m pytest -p no:cacheprovider --durations=5 tests/boot --ignore=tests/boot/test_boot_deadline.py
second=$?
wait $first
status=$?
cat $log
exit $((status + second))

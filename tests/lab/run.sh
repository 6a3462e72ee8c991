#!/bin/sh
# Makes the tree if need be, and runs the lab's tests side by side: a machine that trains mostly waits.
set -u
python=${1:-.venv/bin/python}
sh tests/boot/make_tree.sh || exit 1
export GPULAUNCH_BOOT=1
exec $python -m pytest -p no:cacheprovider -n 4 --durations=5 tests/lab

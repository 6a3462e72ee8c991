#!/bin/sh
# Makes the tree if need be, and runs the boot tests in three parts at the same time: a machine that boots mostly waits.
set -u
python=${1:-.venv/bin/python}
sh tests/boot/make_tree.sh || exit 1
export GPULAUNCH_BOOT=1
parts="deadline store"
for part in $parts; do
    (
        $python -m pytest -p no:cacheprovider tests/boot/test_boot_$part.py >build/boot/$part.log 2>&1
        echo $? >build/boot/$part.status
    ) &
done
$python -m pytest -p no:cacheprovider --durations=5 tests/boot \
    --ignore=tests/boot/test_boot_deadline.py --ignore=tests/boot/test_boot_store.py
status=$?
wait
for part in $parts; do
    cat build/boot/$part.log
    status=$((status + $(cat build/boot/$part.status)))
done
exit $status

"""`python -m launcher.cli`: how a guard is started, so that it needs no script on the PATH."""

from launcher.cli import main

main()

"""`python -m unitscope` is `unitscope`."""

from unitscope.cli.app import main

main()

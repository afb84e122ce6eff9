"""`python -m multimail.cli` is `multimail`."""

from multimail.cli import main

main()

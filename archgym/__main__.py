"""``python -m archgym`` is the command line."""

from archgym.cli import main

main()

"""``python -m tomocast``."""

from tomocast.cli import main

main()

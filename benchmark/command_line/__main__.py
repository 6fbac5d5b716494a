"""``python -m benchmark.command_line`` is ``vimi``."""

from benchmark.command_line import main

main()

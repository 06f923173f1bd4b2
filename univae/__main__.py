"""``python -m univae``: the command ``univae``."""

from univae.command_package import command_module

if __name__ == "__main__":
    command_module("experiments.cli").main()

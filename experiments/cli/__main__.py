"""``python -m experiments.cli`` is the ``univae`` command."""

from experiments.cli.commands import main

if __name__ == "__main__":
    main()

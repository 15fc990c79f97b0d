"""``python -m labs``: the same as the ``labs`` command."""

from labs.commands.cli import main

if __name__ == "__main__":
    main()

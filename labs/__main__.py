"""``python -m labs``: what is in a directory of runs, and what can be done with a run."""

from labs.commands.cli import main

if __name__ == "__main__":
    main()

"""What a command line shows of its options; ``labs/runtime/cli.py`` reads it."""

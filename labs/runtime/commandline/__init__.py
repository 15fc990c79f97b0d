"""Options as the command line shows them; ``labs/runtime/cli.py`` parses the command line."""

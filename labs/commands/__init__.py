"""The ``labs`` command: runs on disk are listed, shown, compared and run again."""

"""The old place of ``python -m labs.cluster.aws``, kept for those who know it."""

import runpy

if __name__ == "__main__":
    runpy.run_module("labs.cluster.aws", run_name="__main__")

"""Where and how an experiment runs: Ray sessions, sweeps, checkpoints, run directories, TensorBoard.

This package knows no experiment. Ray reads the settings below when it is imported (or when its
processes start), so they stand here, before any module of this package imports it. A value that the
user has set in the environment wins.
"""

import os

for _name, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing about a run leaves the machine
    # Despite its name this holds on Linux too: a private Ray then binds to 127.0.0.1, not to
    # every interface, where anybody on the same network could run code.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # Tune would change the driver's working directory
    "RAY_AIR_NEW_OUTPUT": "0",  # together with verbose=0: Tune prints nothing, our console does
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our tracking replaces Tune's CSV and TensorBoard
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial that asked for no GPU sees none
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # labs.runtime.loop.signals handles SIGINT
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # `uv run`: workers would each build an environment again
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # or cuBLAS adds in another order each time
    "TOKENIZERS_PARALLELISM": "false",  # tokenizers' threads and forked workers deadlock
}.items():
    os.environ.setdefault(_name, _value)

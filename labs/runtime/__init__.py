"""Running experiments: Ray sessions, sweeps, checkpoints, run directories, TensorBoard.

This package depends on no experiment. Ray reads the settings below when it is imported or when its
processes start, so they are set here, before any module of this package imports it.
"""

import os

# Results depend on these, so they override variables that another program has left.
os.environ |= {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # Tune would change the trials' working directory
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # labs.runtime.loop.signals handles SIGINT
    "TUNE_RESULT_BUFFER_LENGTH": "1",  # a trial takes its next step when the last one is recorded
}

# These are preferences: a value that the user has set in the environment wins.
for _name, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",  # no statistics are sent to Ray's makers
    # Despite its name it also works on Linux (Ray 2.54.1 to 2.60.0): a private Ray then binds to
    # 127.0.0.1 and not to all interfaces, where anybody on the same network could run code.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0, Tune prints nothing; our console does
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our tracking replaces Tune's CSV and TensorBoard
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial without GPUs sees none
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` every worker would build an environment
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # otherwise cuBLAS is not deterministic
    "TOKENIZERS_PARALLELISM": "false",  # tokenizers' threads deadlock in forked workers
}.items():
    os.environ.setdefault(_name, _value)

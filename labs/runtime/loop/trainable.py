"""The Ray Tune trainable that runs the trials of a grid in an actor.

It has its own file because every worker process imports it: with the imports of the recorder (pandas,
matplotlib) it would take twice as long to the first trial.
"""

from __future__ import annotations

import faulthandler
import gc
from typing import Any

from ray import tune

from labs.runtime.output.capture import output
from labs.runtime.trial import GridSpec, TrialRunner


class Trainable(tune.Trainable):
    """Runs trial ``config["index"]`` of a grid; the actor is reused for other trials."""

    def setup(  # type: ignore[override]  # Tune's with_parameters passes more than its base class says
        self, config: dict[str, Any], grid: GridSpec, **shared: Any
    ) -> None:
        """Tune calls it once per process; the grid comes from the object store."""
        self._grid = grid
        self._shared = shared
        # The objects that imports made are not garbage, and to scan them in every collection would
        # take longer than a short trial.
        gc.freeze()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Continue with another trial in the same process."""
        self._end()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Tune calls it when the process ends (in local mode: when it is no longer needed)."""
        self._end()
        gc.unfreeze()

    def step(self) -> dict[str, Any]:
        """The runner's next result; at the trial's end its output is sent to the driver first."""
        result = self._step()
        if result["done"] or result["failure"]:
            output.flush()
        return result

    def _begin(self, config: dict[str, Any]) -> None:
        index = config["index"]
        output.enter(self._grid.output, self._grid.trials[index].checkpoints.name)
        self._runner = TrialRunner(self._grid, index, self._shared)

    def _end(self) -> None:
        self._runner.close()
        output.leave()

    def _step(self) -> dict[str, Any]:
        """A step that takes longer than the timeout kills the process, with its stacks on stderr."""
        timeout = self._grid.trial_timeout
        if timeout is None:
            return {**self._runner.step()}
        # A thread in C, which also works while a call holds the interpreter's lock.
        faulthandler.dump_traceback_later(timeout, exit=True, file=2)
        try:
            return {**self._runner.step()}
        finally:
            faulthandler.cancel_dump_traceback_later()

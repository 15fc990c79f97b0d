"""Commands whose options depend on another option: ``train_agent.py dqn`` has DQN's options."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from labs.runtime.cli import launch
from labs.runtime.commandline.help import asks_for_help
from labs.runtime.directory.description import read_description
from labs.runtime.directory.mirror import fetch_run, is_remote
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions


class Given:
    """The values of fields on a command line that is not parsed yet, or else those of a resumed run."""

    def __init__(self, arguments: Sequence[str], described: Mapping[str, Any]) -> None:
        self._arguments = arguments
        self._described = described

    def __contains__(self, field: str) -> bool:
        """Whether the command line has the option."""
        return self._words(field) is not None

    def values(self, field: str) -> list[str]:
        """The option's values on the command line, or else those of a resumed run."""
        words = self._words(field)
        if words is None:
            kept = self._described.get(field) or []
            words = [str(word) for word in (kept if isinstance(kept, list) else [kept])]
        return words

    def _words(self, field: str) -> list[str] | None:
        option = _option(field)
        found: list[str] | None = None
        collecting = False
        for argument in self._arguments:
            if argument.startswith("--"):
                name, equals, value = argument.partition("=")
                collecting = name.replace("_", "-") == option
                if collecting:
                    found = [value] if equals else []
            elif collecting and found is not None:
                found.append(argument)
        return found


@dataclass(frozen=True)
class Choice:
    """An option that decides which other options there are."""

    field: str
    """Name of the option."""

    words: Collection[str]
    """Values that may be given alone, as a sub-command: ``train_agent.py dqn``."""

    options: Callable[[Given], type]
    """Returns the frozen dataclass of the options for a command line."""

    def spelled_out(self, arguments: Sequence[str]) -> list[str]:
        """The command line with ``--field word`` instead of a sub-command.

        The sub-command is the first argument, unless that is an option, or one of ``words`` that is
        not the first value of an option.

        Raises:
            InputError: two sub-commands, or a sub-command and another value of the option.
        """
        flags = _flags()
        rest: list[str] = []
        chosen: list[str] = []
        before = None
        for argument in arguments:
            first = before is None and not argument.startswith("-")
            value = before is not None and before[:2] == "--" and "=" not in before
            value = value and before not in flags
            (chosen if first or (argument in self.words and not value) else rest).append(argument)
            before = argument
        named = list(dict.fromkeys([*chosen, *Given(rest, {}).values(self.field)]))
        if len(named) > 1:
            raise InputError(
                f"`{self.field}` takes one value, and {' and '.join(named)} are given: choose one"
            )
        return [*rest, f"{_option(self.field)}={chosen[0]}"] if chosen else rest


def launch_choice(
    main: Callable[[Any], int], choice: Choice, arguments: Sequence[str] | None = None
) -> None:
    """Parse the command line with the options that it chooses, run ``main`` and exit. Never returns.

    A resumed run may be given more values of every option. Errors and signals are as in
    ``labs.launch``.

    Args:
        main: takes the options, returns the exit status.
        choice: the option that decides, and the options that follow from it.
        arguments: the command line; None takes ``sys.argv``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        given = choice.spelled_out(given)
        options = choice.options(Given(given, _described(given)))
    except InputError as error:
        spelled = re.sub("`([a-z_]+)`", lambda match: _option(match[1]), str(error))
        print(f"error: {spelled}", file=sys.stderr)
        sys.exit(2)
    grows = [field.name for field in dataclasses.fields(options) if field.name != "runtime"]
    launch(main, options, grows=grows, arguments=given)


def _described(arguments: Sequence[str]) -> Mapping[str, Any]:
    """The options of the run that the command line continues or repeats."""
    given = Given(arguments, {})
    words = given.values("resume") or given.values("rerun")
    if not words or asks_for_help(arguments):
        return {}
    directory = words[0]
    if is_remote(directory):
        directory = str(fetch_run(directory)[0])
    return read_description(directory)["config"]


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _flags() -> set[str]:
    """The options without a value."""
    hints = get_type_hints(RuntimeOptions)
    names = [f.name for f in dataclasses.fields(RuntimeOptions) if hints[f.name] is bool]
    return {_option(name) for name in (*names, *(f"no_{name}" for name in names))}

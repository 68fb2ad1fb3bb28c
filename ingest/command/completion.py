"""Shell completion, generated from the argument parser: commands, options, and the values of options with choices."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

SHELLS = ("bash", "zsh")

_SCRIPT = """\
# {shell} completion of {program}; written by `{program} completion {shell}`.
_{program}() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" command="" each
    for each in "${{COMP_WORDS[@]:1:$((COMP_CWORD-1))}}"; do
        case "$command $each" in
{commands}
        esac
    done
    COMPREPLY=()
    case "$command $before" in
{values}
    esac
    case "$command" in
{words}
    esac
}}
complete -o bashdefault -o default -F _{program} {program}
"""
_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


@dataclass(frozen=True, slots=True)
class _Level:
    """One command: what may follow it, and what may follow each option that takes a value."""

    path: str
    words: list[str]
    values: dict[str, list[str]]


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Completion of a parser for a shell; an option that takes a free value completes file names."""
    levels = list(_levels(parser, ""))
    commands = [_case(f"{level.path}", f'command="{level.path}"') for level in levels if level.path]
    values = [
        _case(f"{level.path} {option}", _reply(choices) if choices else "return")
        for level in levels
        for option, choices in level.values.items()
    ]
    words = [_case(level.path, _reply(level.words)) for level in levels]
    text = _SCRIPT.format(
        shell=shell, program=parser.prog, commands="\n".join(commands), values="\n".join(values), words="\n".join(words)
    )
    return _ZSH + text if shell == "zsh" else text


def _levels(parser: argparse.ArgumentParser, path: str) -> Iterator[_Level]:
    words: list[str] = []
    values: dict[str, list[str]] = {}
    below: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        choices = [str(choice) for choice in action.choices or ()]
        if isinstance(action, argparse._SubParsersAction):
            below |= action.choices
        words += action.option_strings or choices
        if action.option_strings and action.nargs != 0:
            values |= dict.fromkeys(action.option_strings, choices)
    yield _Level(path, words, values)
    for name, sub in below.items():
        yield from _levels(sub, f"{path} {name}")


def _reply(words: list[str]) -> str:
    return f'COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$word")); return'


def _case(pattern: str, command: str) -> str:
    return f'        "{pattern}") {command} ;;'

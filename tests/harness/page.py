"""A page of the documentation as something that can be done: its commands, and what it says that they print.

Fenced blocks of ``sh`` are commands, a block of ``text`` after one is what they print. An HTML comment right before a
block, invisible to the reader, says what the fence cannot:

- before ``sh``: ``terminal NAME`` (each is a shell of its own; default ``main``), ``stays`` (the last command goes on
  running), ``again`` (until the output is as shown: what is shown takes a moment to become true), ``not run: why``;
- before ``text``: ``excerpt`` (lines may stand between and around those shown), ``numbers vary``, and
  ``exact: WORD WORD`` (not in lines that begin with one of these);
- anywhere: ``interrupt NAME NAME``: Ctrl-C in these terminals.

In what is printed, ``…`` stands for anything; alone on a line, for any lines.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\s*$")
_COMMENT = re.compile(r"^<!--\s*(.*?)\s*-->$")
_NUMBER = re.compile(r"\d(?:[\d,.]*\d)?")
_SHELL = frozenset({"sh", "bash", "console"})


class BadPage(Exception):
    """The page cannot be followed: the text says where."""


@dataclass(frozen=True)
class Shown:
    """What the page shows of an output."""

    lines: tuple[str, ...]
    excerpt: bool = False
    numbers_vary: bool = False
    exact: frozenset[str] = frozenset()

    def difference(self, printed: Sequence[str]) -> str:
        """Empty where what was printed is what is shown; else the first shown line that did not come."""
        left = [self._plain(line) for line in printed if line.strip()]
        gap = self.excerpt
        for line in (line for line in self.lines if line.strip()):
            if line.strip() == "…":
                gap = True
                continue
            pattern = re.compile(".*".join(re.escape(part) for part in self._plain(line).split("…")))
            at = next((at for at, one in enumerate(left) if pattern.fullmatch(one)), None)
            if at is None or (at > 0 and not gap):
                return f"shown, but not printed there: {line.strip()!r}"
            left, gap = left[at + 1 :], self.excerpt
        return "" if gap or not left else f"printed, but not shown: {left[0]!r}"

    def _plain(self, line: str) -> str:
        words = line.split()
        if self.numbers_vary and words[0] not in self.exact:
            return _NUMBER.sub("#", " ".join(words))
        return " ".join(words)


@dataclass(frozen=True)
class Step:
    """A block of commands, or Ctrl-C in some terminals."""

    section: str
    line: int
    commands: str = ""
    terminal: str = "main"
    stays: bool = False
    again: bool = False
    not_run: str = ""
    interrupt: tuple[str, ...] = ()
    shown: Shown | None = None


@dataclass
class _Reader:
    path: Path
    steps: list[Step] = field(default_factory=list)
    section: str = ""
    remarks: tuple[str, ...] = ()

    def block(self, language: str, lines: list[str], at: int) -> None:
        if language in _SHELL:
            self.steps.append(self._command("\n".join(lines), at))
        elif language == "text" and self.steps and self.steps[-1].shown is None and self.steps[-1].commands:
            self.steps[-1] = replace(self.steps[-1], shown=self._shown(lines, at))

    def _command(self, commands: str, at: int) -> Step:
        step = Step(self.section, at, commands)
        for remark in self.remarks:
            name, _, rest = remark.partition(" ")
            match name.rstrip(":"):
                case "terminal":
                    step = replace(step, terminal=rest)
                case "stays":
                    step = replace(step, stays=True)
                case "again":
                    step = replace(step, again=True)
                case "not" if rest.startswith("run: "):
                    step = replace(step, not_run=rest.removeprefix("run: "))
                case _:
                    raise BadPage(f"{self.path}:{at}: unknown remark on commands: {remark!r}")
        return step

    def _shown(self, lines: list[str], at: int) -> Shown:
        shown = Shown(tuple(lines))
        for remark in self.remarks:
            if remark == "excerpt":
                shown = replace(shown, excerpt=True)
            elif remark == "numbers vary":
                shown = replace(shown, numbers_vary=True)
            elif remark.startswith("exact: "):
                shown = replace(shown, exact=frozenset(remark.split()[1:]))
            else:
                raise BadPage(f"{self.path}:{at}: unknown remark on an output: {remark!r}")
        return shown


def read(path: Path) -> list[Step]:
    """The steps of a page, in order. Raises ``BadPage``."""
    reader = _Reader(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        fence, comment = _FENCE.match(line), _COMMENT.match(line)
        if fence is not None:
            end = next((n for n in range(at + 1, len(lines)) if lines[n].strip() == "```"), None)
            if end is None:
                raise BadPage(f"{path}:{at + 1}: this block has no end")
            reader.block(fence.group(1), lines[at + 1 : end], at + 1)
            at = end
        elif comment is not None and comment.group(1).startswith("interrupt "):
            names = tuple(comment.group(1).split()[1:])
            reader.steps.append(Step(reader.section, at + 1, interrupt=names))
        elif line.startswith("#"):
            reader.section = line.lstrip("# ")
        reader.remarks = tuple(re.split(r",\s*", comment.group(1))) if comment is not None else ()
        at += 1
    return reader.steps

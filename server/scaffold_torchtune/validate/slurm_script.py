"""Reading a SLURM script: its directives as sbatch sees them, and its commands as far as they stand there plainly.

Not a shell: nothing is expanded, and what a command does is not looked at here.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from scaffold_torchtune.validate.report import quoted

_SHORT: Final = {
    "A": "account", "C": "constraint", "D": "chdir", "G": "gpus", "J": "job-name", "N": "nodes", "a": "array",
    "c": "cpus-per-task", "d": "dependency", "e": "error", "n": "ntasks", "o": "output", "p": "partition", "q": "qos",
    "t": "time",
}  # fmt: skip
_LONG: Final = frozenset(_SHORT.values()) | {
    *("begin", "comment", "cpus-per-gpu", "exclude", "exclusive", "export", "gpus-per-node", "gpus-per-task", "gres"),
    *("hold", "licenses", "mail-type", "mail-user", "mem", "mem-per-cpu", "mem-per-gpu", "nodelist", "no-requeue"),
    *("ntasks-per-node", "open-mode", "requeue", "reservation", "signal", "time-min", "wrap"),
}
_WITHOUT_VALUE: Final = frozenset({"exclusive", "hold", "no-requeue", "requeue"})
_DIRECTIVE: Final = re.compile(r"#SBATCH(?=\s|$)")
_NEARLY: Final = re.compile(r"\s+#\s*SBATCH\s*-|#\s+SBATCH\s*-|#SBATCH-|(?!(?-i:#SBATCH))#SBATCH\s*-", re.IGNORECASE)
_SHELL: Final = re.compile(r"#!\s*(?:/\S*/env\s+(?:-\S+\s+)*)?(?:/\S*/)?(?:ba|da|k|z)?sh(?:\s|$)")
_NEVER: Final = {"\r": "the line ends as on DOS", "\0": "the line holds a NUL character"}
_PLACEHOLDER: Final = re.compile(r"<[A-Z][A-Z0-9_]*>")
_HEREDOC: Final = re.compile(r"<<-?\s*(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\1")
_SEPARATORS: Final = frozenset(";&|()")


@dataclass(frozen=True)
class Directive:
    """One option of an #SBATCH line, by its long name. A late one stands after the first command: sbatch ignores it."""

    name: str
    value: str
    line: int
    late: bool


@dataclass(frozen=True)
class Command:
    """One simple command: its words without quotes, the line where it begins, and what joins it to what follows.

    `joined` is `&`, `&&`, `|`, `||` or another separator, once or twice; empty where its line ends.
    """

    words: tuple[str, ...]
    line: int
    joined: str = ""


@dataclass
class SlurmScript:
    """A SLURM script as read; `problems` and `placeholders` are texts with their lines."""

    directives: list[Directive] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    placeholders: list[tuple[int, str]] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def problem(self, line: int, text: str) -> None:
        """Add a problem."""
        self.problems.append((line, text))


def parse_script(text: str) -> SlurmScript:
    """Read a script. Whatever the text is, this returns; what cannot be read is among the problems."""
    script = SlurmScript()
    if text.startswith("\ufeff"):
        script.problem(1, "the script begins with a byte order mark, so sbatch sees no #! and does not take it")
        text = text[1:]
    lines = text.split("\n")
    if not re.match(r"#!\s*/\S", lines[0]):
        script.problem(1, "the first line names no interpreter (#!/bin/bash), so sbatch does not take it")
    elif not _SHELL.match(lines[0]):
        script.problem(1, f"the script is for {quoted(lines[0])}, but its commands are those of bash")
    for character, why in _NEVER.items():
        number = next((n for n, line in enumerate(lines, 1) if character in line), None)
        if number is not None:
            script.problem(number, f"{why}, and sbatch does not take such a script")
    begun = False
    for number, line in enumerate(lines, 1):
        if _DIRECTIVE.match(line):
            _directive(script, line[len("#SBATCH") :], number, late=begun)
        elif _NEARLY.match(line):
            script.problem(number, "the line is no directive: sbatch takes only what begins with `#SBATCH --`")
        elif line.strip() and not line.lstrip().startswith("#"):
            begun = True
        if not line.startswith("##SBATCH"):
            script.placeholders += [(number, found) for found in _PLACEHOLDER.findall(line)]
    _Commands(script, text).read()
    return script


def _directive(script: SlurmScript, rest: str, line: int, *, late: bool) -> None:
    words = _option_words(rest)
    if words is None:
        script.problem(line, "a quote in this #SBATCH line is never closed")
        return
    while words:
        word = words.pop(0)
        name, equals, value = _split_option(word)
        if not name:
            script.problem(line, f"an #SBATCH line holds {quoted(word)}, which is no option")
            continue
        if not equals and not value and name not in _WITHOUT_VALUE and words and not words[0].startswith("-"):
            value = words.pop(0)
        script.directives.append(Directive(name, value, line, late))


def _split_option(word: str) -> tuple[str, bool, str]:
    """The long name of an option, whether it has an equals sign, and its value; no name where it is no option."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        matches = [known for known in _LONG if known.startswith(name)]
        # getopt_long(3) takes any abbreviation that only one option has
        full = name if name in _LONG or len(matches) != 1 else matches[0]
        return full, bool(equals), value
    if word.startswith("-") and len(word) > 1:
        return _SHORT.get(word[1], word[1]), False, word[2:]
    return "", False, ""


def _option_words(text: str) -> list[str] | None:
    """The words of an #SBATCH line without quotes and without its comment; None where a quote stays open."""
    words: list[str] = []
    word, quote = None, ""
    for character in text:
        if quote:
            word, quote = (word or "") + ("" if character == quote else character), "" if character == quote else quote
        elif character in "'\"":
            word, quote = word or "", character
        elif character.isspace():
            words += [] if word is None else [word]
            word = None
        elif character == "#" and word is None:
            break
        else:
            word = (word or "") + character
    return None if quote else words + ([] if word is None else [word])


class _Commands:
    """Splits the whole text into simple commands: quotes, continued lines, comments and here-documents are honoured."""

    def __init__(self, script: SlurmScript, text: str) -> None:
        self.script = script
        self.text = text
        self.position = 0
        self.line = 1
        self.words: list[str] = []
        self.word: str | None = None
        self.start = 1

    def read(self) -> None:
        """Read to the end."""
        while self.position < len(self.text):
            self.position += 1
            self._step(self.text[self.position - 1], self.text[self.position : self.position + 1])
        self._end_command()

    def _step(self, character: str, following: str) -> None:
        if character == "\\":
            self.position += 1
            if following == "\n":
                self.line += 1
            else:
                self._add(following)
        elif character in "'\"":
            self._quoted(character)
        elif character == "#" and self.word is None:
            self._skip_line()
        elif character == "<" and (document := _HEREDOC.match(self.text, self.position - 1)):
            self._here_document(document)
        elif character == "&" and ((self.word or "").endswith((">", "<")) or following == ">"):
            self._add(character)  # `2>&1`, `&>file`
        elif character == "\n" or character in _SEPARATORS:
            self._end_command("" if character == "\n" else character * (1 + (following == character)))
            self.line += character == "\n"
        elif character.isspace():
            self._end_word()
        else:
            self._add(character)

    def _add(self, characters: str) -> None:
        if self.word is None:
            self.word = ""
            if not self.words:
                self.start = self.line
        self.word += characters

    def _quoted(self, quote: str) -> None:
        begun = self.line
        self._add("")
        while self.position < len(self.text):
            character = self.text[self.position]
            self.position += 1
            self.line += character == "\n"
            if character == quote:
                return
            if character == "\\" and quote == '"' and self.text[self.position : self.position + 1] in {'"', "\\", "$"}:
                character = self.text[self.position]
                self.position += 1
            self._add(character)
        self.script.problem(begun, "a quote that begins here is never closed")

    def _skip_line(self) -> None:
        end = self.text.find("\n", self.position)
        self.position = len(self.text) if end < 0 else end

    def _here_document(self, match: re.Match[str]) -> None:
        """Leave out what the command reads; what stands after `<<WORD` on the line is left out too."""
        self.position = match.end()
        lines = self.text[self.position :].split("\n")
        for count, line in enumerate(lines):
            if count and line.strip() == match[2]:
                self.position += len("\n".join(lines[: count + 1]))
                self.line += count
                return
        self.script.problem(self.line, f"the here-document that ends with {match[2]!r} is never closed")
        self.position = len(self.text)

    def _end_word(self) -> None:
        if self.word is not None:
            self.words.append(self.word)
            self.word = None

    def _end_command(self, joined: str = "") -> None:
        self._end_word()
        if self.words:
            self.script.commands.append(Command(tuple(self.words), self.start, joined))
            self.words = []

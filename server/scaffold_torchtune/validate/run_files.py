"""The files of a run, parsed once: YAML with resolved interpolations, and the SLURM script.

Directives of the script are read as sbatch reads them, and commands as plain text.
This is not a shell: it expands nothing, and does not check the effect of a command.
"""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

from scaffold_torchtune.system.layout import FINETUNE_SLURM, FINETUNE_YAML
from scaffold_torchtune.system.serialization import YamlDocument, YamlError, read_yaml
from scaffold_torchtune.validate.report import Problems, quoted, resolve

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
_NEVER: Final = {"\r": "the line has a DOS line ending", "\0": "the line has a NUL character"}
_PLACEHOLDER: Final = re.compile(r"<[A-Z][A-Z0-9_]*>")
_HEREDOC: Final = re.compile(r"(?<!<)<<(?!<)-?[ \t]*(?:\\|(['\"]))?([A-Za-z_][A-Za-z0-9_.-]*)(?(1)\1)")
_SEPARATORS: Final = frozenset(";&|()")
_ORDINARY: Final = re.compile(r"""[^\s\\'"$`#<>&|;()]+""")  # characters without a meaning of their own
_EXPANDS: Final = re.compile(r"\$[A-Za-z0-9_{(@*#?!$-]|`")
_BEFORE_ARROW: Final = re.compile("[0-9]*&?[<>]{0,2}")
_PARTS: Final = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*"|[()]""", re.DOTALL)


@dataclass(frozen=True)
class Directive:
    """One option of an #SBATCH line, by its long name. A late one follows the first command: sbatch ignores it."""

    name: str
    value: str
    line: int
    late: bool


@dataclass(frozen=True)
class Command:
    """One simple command: its words without quotes, the line of its first word, and the separator that follows.

    `joined` is `&`, `&&`, `|`, `||` or another separator, once or twice; empty at the end of a line. `nested` is true
    in parentheses, which start a subshell. `literal` has the words in which the shell expands no `$` and no backtick,
    `redirections` those with `<` or `>` outside quotes. `document` is the text of its here-documents.
    """

    words: tuple[str, ...]
    line: int
    joined: str = ""
    nested: bool = False
    literal: frozenset[str] = frozenset()
    redirections: frozenset[str] = frozenset()
    document: str = ""

    def expands(self, word: str) -> bool:
        """Return whether the shell puts the value of a variable or the output of a command into one of the words."""
        return word not in self.literal and bool(_EXPANDS.search(word))

    def redirected(self, word: str) -> re.Match[str] | None:
        """Return the match of `_REDIRECTION` if one of the words is a redirection."""
        return _REDIRECTION.fullmatch(word) if word in self.redirections else None


@dataclass
class SlurmScript:
    """A parsed SLURM script; `problems` and `placeholders` are texts with their lines."""

    directives: list[Directive] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    placeholders: list[tuple[int, str]] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def problem(self, line: int, text: str) -> None:
        """Add a problem."""
        self.problems.append((line, text))


def parse_script(text: str) -> SlurmScript:
    """Read a script. Returns for any text; unreadable parts are problems."""
    script = SlurmScript()
    if text.startswith("\ufeff"):
        script.problem(1, "the script begins with a byte order mark, so sbatch finds no #! and rejects the script")
        text = text[1:]
    lines = text.split("\n")
    if not re.match(r"#!\s*/\S", lines[0]):
        script.problem(1, "the first line names no interpreter (such as #!/bin/bash), so sbatch rejects the script")
    elif not _SHELL.match(lines[0]):
        script.problem(
            1, f"the first line is {quoted(lines[0])}, but the commands of the script need bash (#!/bin/bash)"
        )
    for character, why in _NEVER.items():
        number = next((n for n, line in enumerate(lines, 1) if character in line), None)
        if number is not None:
            script.problem(number, f"{why}, so sbatch rejects the script")
    begun = False
    for number, line in enumerate(lines, 1):
        if _DIRECTIVE.match(line):
            _directive(script, line[len("#SBATCH") :], number, late=begun)
        elif _NEARLY.match(line):
            script.problem(
                number,
                (
                    "the line is not a directive: sbatch reads only lines that begin with"
                    " `#SBATCH`, followed by an option"
                ),
            )
        elif line.strip() and not line.lstrip().startswith("#"):
            begun = True
        if not line.startswith("##SBATCH"):
            script.placeholders += [(number, found) for found in _PLACEHOLDER.findall(line)]
    _Commands(script, text).read()
    return script


def _directive(script: SlurmScript, rest: str, line: int, *, late: bool) -> None:
    words = _option_words(rest)
    if words is None:
        script.problem(line, "a quote in this #SBATCH line is not closed")
        return
    while words:
        word = words.pop(0)
        name, equals, value = _split_option(word)
        if not name:
            why = "; heterogeneous jobs are not supported" if word == "hetjob" else ", which is not an option"
            script.problem(line, f"this #SBATCH line has {quoted(word)}{why}")
            continue
        if not equals and not value and name not in _WITHOUT_VALUE and words and not words[0].startswith("-"):
            value = words.pop(0)
        script.directives.append(Directive(name, value, line, late))


def _split_option(word: str) -> tuple[str, bool, str]:
    """Return the long name of an option (empty if it is none), whether it has an equals sign, and its value."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        matches = [known for known in _LONG if known.startswith(name)]
        # getopt_long(3) accepts any abbreviation that only one option has
        full = name if name in _LONG or len(matches) != 1 else matches[0]
        return full, bool(equals), value
    if word.startswith("-") and len(word) > 1:
        return _SHORT.get(word[1], word[1]), False, word[2:]
    return "", False, ""


def _option_words(text: str) -> list[str] | None:
    """Return the words of an #SBATCH line without quotes and comment; None if a quote is not closed."""
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


def parse_commands(text: str) -> list[Command]:
    """Return the commands of a text for `bash -c`."""
    script = SlurmScript()
    _Commands(script, text).read()
    return script.commands


class _Commands:
    """Splits the whole text into simple commands.

    Supports quotes, continued lines, comments, here-documents and substitutions: `$(...)` is a part of its word.
    """

    def __init__(self, script: SlurmScript, text: str) -> None:
        self.script = script
        self.text = text
        self.position = 0
        self.line = 1
        self.words: list[str] = []
        self.word: str | None = None
        self.start = 1
        self.depth = 0
        self.is_literal, self.is_redirection = True, False
        self.literal: set[str] = set()
        self.redirections: set[str] = set()
        self.documents: list[tuple[str, int, int]] = []
        self.has_unclosed = False

    def read(self) -> None:
        """Read to the end."""
        while self.position < len(self.text):
            if ordinary := _ORDINARY.match(self.text, self.position):
                self.position = ordinary.end()
                self._add(ordinary[0])
                continue
            self.position += 1
            self._step(self.text[self.position - 1], self.text[self.position : self.position + 1])
        self._end_command()
        self._skip_documents()

    def _step(self, character: str, following: str) -> None:
        if character == "\\":
            self.position += 1
            if following == "\n":
                self.line += 1
            else:
                self._add(following)
        elif character in "'\"":
            self._quoted(character)
        elif character in "$`":
            self._expansion()
        elif character == "#" and self.word is None:
            self._skip_line()
        elif character == "<" and (document := _HEREDOC.match(self.text, self.position - 1)):
            self.position = document.end()
            self.documents.append((document[2], self.line, len(self.script.commands)))
        elif character in "<>&|" and self._redirects(character, following):
            self._add(character)
        elif character == "\n" or character in _SEPARATORS:
            self._end_command("" if character == "\n" else character * (1 + (following == character)))
            self.depth = max(0, self.depth + {"(": 1, ")": -1}.get(character, 0))
            if character == "\n":
                self.line += 1
                self._skip_documents()
        elif character.isspace():
            self._end_word()
        else:
            self._add(character)

    def _redirects(self, character: str, following: str) -> bool:
        """Return whether a character belongs to an operator such as `2>&1` or `&>`, which ends the word before it."""
        if character in "<>" or (character == "&" and following == ">"):
            if self.word is not None and not _BEFORE_ARROW.fullmatch(self.word):
                self._end_word()
            self.is_redirection = True
            return True
        return self.is_redirection and (self.word or "").endswith(("<", ">"))

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
            if character in "$`" and quote == '"':
                self._expansion()
                continue
            if (
                character == "\\"
                and quote == '"'
                and self.text[self.position : self.position + 1] in {'"', "\\", "$", "`"}
            ):
                character = self.text[self.position]
                self.position += 1
            self._add(character)
        self.script.problem(begun, "a quote that begins here is not closed")

    def _skip_line(self) -> None:
        self.position = self._end_of_line()

    def _end_of_line(self) -> int:
        end = self.text.find("\n", self.position)
        return len(self.text) if end < 0 else end

    def _expansion(self) -> None:
        """Add the `$` or backtick before the position, and the command that is substituted if one begins here."""
        begun = self.position - 1
        end = self._end_of_substitution(begun)
        self.position = self.position if end is None else end
        self._add(self.text[begun : self.position])
        self.line += self.text.count("\n", begun, self.position)
        self.is_literal = self.is_literal and not _EXPANDS.match(self.text, begun)

    def _end_of_substitution(self, begun: int) -> int | None:
        """Return the position after `$(...)` or a command in backticks; None if there is none or it is not closed."""
        if self.has_unclosed:  # a search for the end would always fail, and take long
            return None
        if self.text[begun] == "`":
            end = self.text.find("`", begun + 1)
            self.has_unclosed = end < 0
            return None if end < 0 else end + 1
        depth = 0
        for part in _PARTS.finditer(self.text, begun + 1) if self.text.startswith("$(", begun) else ():
            depth += {"(": 1, ")": -1}.get(part[0], 0)
            if not depth:
                return part.end()
        self.has_unclosed = self.text.startswith("$(", begun)
        return None

    def _skip_documents(self) -> None:
        """Skip the here-documents that begin on the line before the position."""
        for delimiter, begun, number in self.documents:
            line: str | None = None
            start = self.position
            while self.position < len(self.text) and (line or "").strip() != delimiter:
                end = self._end_of_line()
                line, self.position = self.text[self.position : end], end + 1
                self.line += 1
            if (line or "").strip() != delimiter:
                self.script.problem(begun, f"the here-document with the delimiter {delimiter!r} is not closed")
            for each in self.script.commands[number : number + 1]:
                self.script.commands[number] = replace(each, document=each.document + self.text[start : self.position])
        self.documents = []

    def _end_word(self) -> None:
        if self.word is not None:
            self.words.append(self.word)
            if self.is_literal:
                self.literal.add(self.word)
            if self.is_redirection:
                self.redirections.add(self.word)
            self.word, self.is_literal, self.is_redirection = None, True, False

    def _end_command(self, joined: str = "") -> None:
        self._end_word()
        commands = self.script.commands
        if self.words:
            literal = frozenset(word for word in self.words if word in self.literal and _EXPANDS.search(word))
            nested, redirections = self.depth > 0, frozenset(self.redirections)
            commands.append(Command(tuple(self.words), self.start, joined, nested, literal, redirections))
            self.words, self.literal, self.redirections = [], set(), set()
        elif joined[:1] in {"&", "|"} and commands and commands[-1].joined.startswith(")"):
            commands[-1] = replace(commands[-1], joined=joined)  # `(...) || exit`


# The words of a command, up to the training.

KEYWORDS: Final = frozenset({"!", "do", "elif", "else", "if", "then", "time", "until", "while", "{"})
_PREFIXES: Final = KEYWORDS | {"command", "env", "exec", "nohup", "srun"}
CONDA: Final = ("conda", "mamba", "micromamba")
CONTAINERS: Final = dict.fromkeys(("apptainer", "docker", "enroot", "podman", "singularity"), 2) | {"ch-run": 1}
LAUNCHERS: Final = {
    **dict.fromkeys((*_PREFIXES, "ionice", "mpiexec", "mpirun", "nice", "numactl", "setsid", "stdbuf", "unbuffer"), 0),
    **dict.fromkeys((*CONDA, "chrt", "pixi", "poetry", "taskset", "timeout", "uv"), 1),
    **CONTAINERS,
}
"""Programs that start the command behind them, and the number of their words before it: `conda run`, `timeout 50m`."""

_MODULE: Final = "torchtune._cli.tune"
SHELLS: Final = frozenset({"bash", "sh", "zsh"})
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_REDIRECTION: Final = re.compile(r"(?:[0-9]+|&)?(?P<operator><<<|<>|>>|>\||[<>]&?)(?P<file>.*)", re.DOTALL)


def plain(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words of a command without the keywords before it, as `then` or `function NAME {`."""
    start = 2 if words[0] == "function" else 0
    return words[next((n for n in range(start, len(words)) if words[n] not in KEYWORDS), len(words)) :]


def trains(words: tuple[str, ...]) -> bool:
    """Return whether a command starts `tune run`."""
    return bool(split(words)[1])


def split(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words before `tune run`, and those from there on; the latter are empty if it is not started."""
    pairs = enumerate(pairwise(words))
    number = next((n for n, (one, two) in pairs if two == "run" and program_of(one) in {"tune", _MODULE}), len(words))
    launch, start = words[:number], words[number:]
    options = next((n for n, word in enumerate(reversed(launch)) if not word.startswith("-")), len(launch))
    program, before = launch[: len(launch) - options], launch
    is_module = start[:1] == (_MODULE,) and launch[-1:] == ("-m",)
    if program_of("".join(program[-1:])).startswith("python") and (is_module or "/" in "".join(start[:1])):
        before = program[:-1]  # `python -m torchtune._cli.tune`, `python PATH/tune`
    elif start[:1] == (_MODULE,):
        return words, ()
    return (launch, start) if start and _launches(before) else (words, ())


def program_of(word: str) -> str:
    """Return the name of a program without its directory."""
    return word.rpartition("/")[2]


def _launches(words: Sequence[str]) -> bool:
    """Return whether words only start the command behind them: launchers, their options, assignments and grammar."""
    operands, previous = 0, ""
    for word in words:
        if program_of(word) in LAUNCHERS and not (operands and word == "exec"):  # `apptainer exec`
            operands = LAUNCHERS[program_of(word)]
        elif not (word.startswith("-") or _ASSIGNMENT.match(word)):
            if not previous.startswith("-") or "=" in previous:  # it is not the value of an option
                operands -= 1
            if operands < 0:
                return False
        previous = word
    return True


def launchers(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return the launchers among the words before the training, each with the words that follow it."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if program_of(word) in LAUNCHERS:
            found.append((program_of(word), []))
        elif found:
            found[-1][1].append(word)
    return found


def unwrapped(command: Command) -> list[Command]:
    """Return the commands that `bash -c '...'` starts if one of them trains, else the command itself."""
    shell = next((n for n, word in enumerate(command.words) if program_of(word) in SHELLS), None)
    if shell is None or not _launches(command.words[:shell]):
        return [command]
    rest, is_text = deque(command.words[shell + 1 :]), False
    while rest and re.fullmatch("[-+][A-Za-z]+|--[a-z-]+", rest[0]):
        option = rest.popleft()
        is_text = is_text or ("c" in option and not option.startswith("--"))
        if rest and re.fullmatch("[-+][a-zA-Z]*[oO]", option):  # `-euo pipefail`
            rest.popleft()
    texts = [rest[0]] if is_text and rest else []
    found = [replace(each, line=command.line) for text in texts for each in parse_commands(text)]
    if not any(trains(each.words) for each in found):
        return [command]
    found[-1] = replace(found[-1], joined=command.joined)
    before = command.words[:shell]
    return [replace(one, words=(*before, *one.words)) if trains(one.words) else one for one in found]


def bare(command: Command) -> tuple[str, ...]:
    """Return the words of a command without prefixes of its name and redirections."""
    kept: list[str] = []
    skipping = False
    for word in command.words:
        redirection = command.redirected(word)
        if not (redirection or skipping):
            kept.append(word)
        skipping = redirection is not None and not redirection["file"]
    words = tuple(kept)
    if training := split(words)[1]:
        return ("tune", *training[1:])
    names = (n for n, word in enumerate(words) if not (word in _PREFIXES or _ASSIGNMENT.match(word)))
    return words[next(names, len(words)) :]


# The commands that run.

_OPENING: Final = frozenset({"if", "for", "while", "until", "case", "select", "{"})
_CLOSING: Final = frozenset({"fi", "done", "esac", "}"})
_CONSTANTS: Final = {"true": True, ":": True, "false": False}
_CONDITIONS: Final = frozenset({"&&", "||", "|"})
_DEAD: Final = frozenset(
    {("if", "then", False), ("elif", "then", False), ("while", "do", False), ("until", "do", True)}
)
"""Parts of blocks that never run, with the status of the condition."""

_EXISTS: Final = re.compile(r"(?:\[\[?|test) -[efrs] finetune\.yaml(?: \]\]?)?")
"""Tests that succeed: validate reads this file."""


class Runs(Enum):
    """The knowledge of whether a command runs."""

    ALWAYS = auto()
    MAYBE = auto()
    NEVER = auto()


@dataclass
class _Block:
    """An open `if`, loop, `case` or `{`.

    `is_dead` if its current part never runs, which also holds in a dead block; `is_sure` if it always runs, which only
    holds in a block that always does.
    """

    keyword: str
    in_dead: bool
    is_dead: bool
    in_sure: bool
    is_sure: bool

    def begin(self, part: str, status: bool | None) -> None:
        """Begin the next part after a condition with a status."""
        state = (self.keyword, part, status)
        self.is_dead = self.in_dead or state in _DEAD
        self.is_sure = self.in_sure and state == ("if", "then", True)
        self.keyword = "elif" if part == "elif" else self.keyword


def reached(commands: Sequence[Command], conditional: frozenset[str] = _CONDITIONS) -> list[Runs]:
    """Return for each command whether it runs.

    MAYBE in a function or a block, except `{` and `if true`, and after a separator in `conditional`.
    """
    found: list[Runs] = []
    blocks: list[_Block] = []
    before = ""
    status: bool | None = None
    for number, (command, (is_skipped, following)) in enumerate(zip(commands, _statuses(commands), strict=True)):
        opened = []
        for word in keywords(command.words):
            if word in _OPENING:
                opened.append(word)
            elif word not in _CLOSING:
                for block in blocks[-1:]:
                    block.begin(word, status)
            elif blocks:
                blocks.pop()
        is_dead = bool(is_skipped or (blocks and blocks[-1].is_dead))
        is_tested = before in conditional and (before, status) not in {("&&", True), ("||", False)}
        is_sure = (not blocks or blocks[-1].is_sure) and not is_tested
        is_own = is_sure and not function_of(commands, number)
        found.append(Runs.NEVER if is_dead else Runs.ALWAYS if is_own else Runs.MAYBE)
        blocks += [_Block(word, is_dead, is_dead, is_own, is_own and word == "{") for word in opened]
        before, status = command.joined, following
    return found


def function_of(commands: Sequence[Command], number: int) -> str:
    """Return the name of the function whose body the command at a position opens with `{`; empty if it opens none."""
    command, before = commands[number], commands[number - 1] if number else Command(("",), 0)
    if command.words[0] == "function" and command.words[2:3] == ("{",):
        return command.words[1]
    is_header = before.words[0] == "function" or (before.joined == "(" and "=" not in before.words[0])
    return before.words[-1] if is_header and command.words[0] == "{" and before.nested == command.nested else ""


def keywords(words: Sequence[str]) -> list[str]:
    """Return the words before a simple command that open, divide or close blocks."""
    found = []
    for word in words[2 if words[0] == "function" else 0 :]:
        if word in _OPENING or word in _CLOSING or word in {"then", "do", "else", "elif"}:
            found.append(word)
        elif word not in {"!", "time"}:
            break
    return found


def _statuses(commands: Sequence[Command]) -> list[tuple[bool, bool | None]]:
    """Return for each command whether `true ||` or `false &&` skips it, and whether the list then succeeds.

    None if that is unknown: all statuses but those of constants are.
    """
    found: list[tuple[bool, bool | None]] = []
    before = ""
    status: bool | None = None
    for command in commands:
        is_skipped = (before, status) in {("&&", False), ("||", True)}
        if not is_skipped:
            own = None if before == "|" else _constant(command)
            # after a command with an unknown status, `&& false` still fails, and `|| true` succeeds
            is_known = status is not None or own is {"&&": False, "||": True}.get(before, own)
            status = own if is_known else None
        found.append((is_skipped, status))
        before = command.joined
    return found


def _constant(command: Command) -> bool | None:
    """Return whether a command such as `if ! true` always succeeds; None if that is unknown."""
    if command.nested or "{" in command.words:  # `! { true`
        return None
    text = " ".join(word for word in bare(command) if word != "!")
    status = True if _EXISTS.fullmatch(text) else _CONSTANTS.get(text)
    return None if status is None else status is (command.words.count("!") % 2 == 0)


@dataclass(frozen=True)
class ResolvedConfig:
    """A parsed finetune.yaml, and its data with resolved interpolations: empty if it holds no mapping.

    `problems` has the failures to resolve, by path.
    """

    document: YamlDocument
    data: dict[str, Any]
    problems: Problems


class RunFiles:
    """The files of a run; `texts` has the text of each by its name, None if missing or unreadable."""

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self.texts = texts

    def document(self, name: str) -> YamlDocument | None:
        """Read a YAML file. Only finetune.yaml, which other programs write, may have aliases.

        Raises:
            YamlError: it is not valid or not supported YAML.
        """
        text = self.texts.get(name)
        return None if text is None else read_yaml(text, aliases=name == FINETUNE_YAML)

    @cached_property
    def script(self) -> SlurmScript | None:
        """Return the parsed finetune.slurm."""
        text = self.texts.get(FINETUNE_SLURM)
        return None if text is None else parse_script(text)

    @cached_property
    def config(self) -> ResolvedConfig | None:
        """Return the parsed finetune.yaml.

        Raises:
            YamlError: it is not valid or not supported YAML.
        """
        document = self.document(FINETUNE_YAML)
        if document is None:
            return None
        data, problems = resolve(document.data) if isinstance(document.data, dict) else ({}, {})
        return ResolvedConfig(document, data, problems)

    @property
    def readable_config(self) -> ResolvedConfig | None:
        """Return the parsed finetune.yaml, if readable."""
        try:
            return self.config
        except (YamlError, RecursionError):
            return None

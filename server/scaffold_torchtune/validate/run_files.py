"""The files of a run, parsed once: YAML with `${...}` resolved as torchtune does, and the SLURM script.

`${...}` never calls a resolver. Directives of the script are read as sbatch reads them, and commands as plain text.
This is not a shell: it expands nothing, and does not check the effect of a command.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

from scaffold_torchtune.system.layout import FINETUNE_SLURM, FINETUNE_YAML
from scaffold_torchtune.system.serialization import KeyPath, YamlDocument, YamlError, read_yaml
from scaffold_torchtune.validate.report import BROKEN, interpolates, leaves, quoted

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
_EXPANDS: Final = re.compile(r"\$[A-Za-z0-9_{(@*#?!$-]|`")
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
    in parentheses, which start a subshell. `literal` has the words in which the shell expands no `$` and no backtick.
    """

    words: tuple[str, ...]
    line: int
    joined: str = ""
    nested: bool = False
    literal: frozenset[str] = frozenset()

    def expands(self, word: str) -> bool:
        """Return whether the shell puts the value of a variable or the output of a command into one of the words."""
        return word not in self.literal and bool(_EXPANDS.search(word))


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
        script.problem(1, f"the first line is {quoted(lines[0])}, but the commands of the script need bash")
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
                number, ("the line is not a directive: sbatch accepts only lines that begin with `#SBATCH --`")
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
            script.problem(line, f"this #SBATCH line has {quoted(word)}, which is not an option")
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
        self.is_literal = True
        self.literal: set[str] = set()
        self.documents: list[tuple[str, int]] = []
        self.is_open = False

    def read(self) -> None:
        """Read to the end."""
        while self.position < len(self.text):
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
            self.documents.append((document[2], self.line))
        elif (character == "&" and ((self.word or "").endswith("<") or following == ">")) or (
            character in "&|" and (self.word or "").endswith(">")
        ):
            self._add(character)  # `2>&1`, `&>file`, `>|file`
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
        end = self.text.find("\n", self.position)
        self.position = len(self.text) if end < 0 else end

    def _expansion(self) -> None:
        """Add the `$` or backtick before the position, and the command that is substituted if one begins here."""
        begun = self.position - 1
        self.position = self._end_of_substitution(begun) or self.position
        self._add(self.text[begun : self.position])
        self.line += self.text.count("\n", begun, self.position)
        self.is_literal = self.is_literal and not _EXPANDS.match(self.text, begun)

    def _end_of_substitution(self, begun: int) -> int:
        """Return the position after `$(...)` or a command in backticks; 0 if there is none or it is not closed."""
        if self.is_open:  # a search for the end would always fail, and take long
            return 0
        if self.text[begun] == "`":
            end = self.text.find("`", begun + 1) + 1
            self.is_open = not end
            return end
        depth = 0
        for part in _PARTS.finditer(self.text, begun + 1) if self.text.startswith("$(", begun) else ():
            depth += {"(": 1, ")": -1}.get(part[0], 0)
            if not depth:
                return part.end()
        self.is_open = self.text.startswith("$(", begun)
        return 0

    def _skip_documents(self) -> None:
        """Skip the here-documents that begin on the line before the position."""
        for delimiter, begun in self.documents:
            line: str | None = None
            while self.position < len(self.text) and (line or "").strip() != delimiter:
                end = self.text.find("\n", self.position) % (len(self.text) + 1)
                line, self.position = self.text[self.position : end], end + 1
                self.line += 1
            if (line or "").strip() != delimiter:
                self.script.problem(begun, f"the here-document with the delimiter {delimiter!r} is not closed")
        self.documents = []

    def _end_word(self) -> None:
        if self.word is not None:
            self.words.append(self.word)
            if self.is_literal:
                self.literal.add(self.word)
            self.word, self.is_literal = None, True

    def _end_command(self, joined: str = "") -> None:
        self._end_word()
        commands = self.script.commands
        if self.words:
            literal = frozenset(word for word in self.words if word in self.literal and _EXPANDS.search(word))
            commands.append(Command(tuple(self.words), self.start, joined, self.depth > 0, literal))
            self.words, self.literal = [], set()
        elif joined[:1] in {"&", "|"} and commands and commands[-1].joined.startswith(")"):
            commands[-1] = replace(commands[-1], joined=joined)  # `(...) || exit`


# The words of a command, up to the training.

_PREFIXES: Final = frozenset(
    {"!", "command", "do", "elif", "else", "env", "exec", "if", "nohup", "srun", "then", "time", "until", "while", "{"}
)
CONDA: Final = ("conda", "mamba", "micromamba")
CONTAINERS: Final = dict.fromkeys(("apptainer", "docker", "enroot", "podman", "singularity"), 2) | {"ch-run": 1}
_LAUNCHERS: Final = {
    **dict.fromkeys((*_PREFIXES, "ionice", "mpiexec", "mpirun", "nice", "numactl", "setsid", "stdbuf", "unbuffer"), 0),
    **dict.fromkeys((*CONDA, "chrt", "pixi", "poetry", "taskset", "timeout", "uv"), 1),
    **CONTAINERS,
}
"""Programs that start the command behind them, and the number of their words before it: `conda run`, `timeout 50m`."""

_MODULE: Final = "torchtune._cli.tune"
_SHELLS: Final = frozenset({"bash", "sh", "zsh"})
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_REDIRECTION: Final = re.compile(r"(?:[0-9]+|&)?(?:<<<|<>|[<>]&?|>>|>\|)(?P<file>[^<>]*)")


def trains(words: tuple[str, ...]) -> bool:
    """Return whether a command starts `tune run`."""
    return bool(split(words)[1])


def split(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words before `tune run`, and those from there on; the latter are empty if it is not started."""
    pairs = enumerate(pairwise(words))
    number = next((n for n, (one, two) in pairs if two == "run" and program_of(one) in {"tune", _MODULE}), len(words))
    launch, start = words[:number], words[number:]
    before = launch
    if start[:1] == (_MODULE,) and launch[-1:] == ("-m",):
        options = next((n for n, word in enumerate(reversed(launch)) if not word.startswith("-")), len(launch))
        before = launch[: len(launch) - options]
        before = before[:-1] if program_of("".join(before[-1:])).startswith("python") else ("python",)
    return (launch, start) if start and _launches(before) else (words, ())


def program_of(word: str) -> str:
    """Return the name of a program without its directory."""
    return word.rpartition("/")[2]


def _launches(words: Sequence[str]) -> bool:
    """Return whether words only start the command behind them: launchers, their options, assignments and grammar."""
    operands, previous = 0, ""
    for word in words:
        if program_of(word) in _LAUNCHERS and not (operands and word == "exec"):  # `apptainer exec`
            operands = _LAUNCHERS[program_of(word)]
        elif not (word.startswith("-") or _ASSIGNMENT.match(word)):
            if not previous.startswith("-") or "=" in previous:  # it is not the value of an option
                operands -= 1
            if operands < 0:
                return False
        previous = word
    return True


def unwrapped(command: Command) -> list[Command]:
    """Return the commands that `bash -c '...'` starts if one of them trains, else the command itself."""
    shell = next((n for n, word in enumerate(command.words) if program_of(word) in _SHELLS), None)
    if shell is None or not _launches(command.words[:shell]):
        return [command]
    options = shell + 1
    while command.words[options : options + 1] and re.fullmatch("-[a-z]+", command.words[options]):
        options += 1
    texts = command.words[options : options + 1] if command.words[options - 1].endswith("c") else ()
    found = [replace(each, line=command.line) for text in texts for each in parse_commands(text)]
    if not any(trains(each.words) for each in found):
        return [command]
    found[-1] = replace(found[-1], joined=command.joined)
    before = command.words[:shell]
    return [replace(one, words=(*before, *one.words)) if trains(one.words) else one for one in found]


def bare(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words of a command without prefixes of its name and redirections."""
    kept: list[str] = []
    skipping = False
    for word in words:
        redirection = _REDIRECTION.fullmatch(word)
        if not (redirection or skipping):
            kept.append(word)
        skipping = redirection is not None and not redirection["file"]
    words = tuple(kept)
    if training := split(words)[1]:
        return ("tune", *training[1:])
    names = (n for n, word in enumerate(words) if not (word in _PREFIXES or _ASSIGNMENT.match(word)))
    return words[next(names, len(words)) :]


Problems = dict[KeyPath, str]

_CHAIN = 4  # depth of nested references; deeper ones are left to OmegaConf
_MISSING = "???"  # OmegaConf's marker for a missing value
_LARGEST = 50_000_000
_PLAIN = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\}")
_ROOT = re.compile(r"\$\{\s*([A-Za-z_][A-Za-z0-9_]*)")


def has_resolver(text: str) -> bool:
    """Return whether text has an interpolation that calls a resolver: a colon anywhere within `${...}`."""
    depth, index = 0, 0
    while index < len(text):
        if text.startswith("${", index):
            depth += 1
        elif depth and text[index] == "}":
            depth -= 1
        elif depth and text[index] == ":":
            return True
        index += 1
    return False


def interpolated(data: Any) -> frozenset[str]:
    """Return the top-level keys that some interpolation in the data names."""
    return frozenset(name for text in leaves(data) if isinstance(text, str) for name in _ROOT.findall(text))


def resolve(data: dict[str, Any]) -> tuple[dict[str, Any], Problems]:
    """Return plain data with every interpolation resolved, and the failures by path.

    An interpolation that cannot be resolved becomes a placeholder text, which is never a planned value. Text that calls
    a resolver is not resolved: `${oc.env:NAME}` would read the environment of the validating process. Most
    interpolations only name a text or integer; they are resolved here, because OmegaConf takes milliseconds.
    """
    problems: Problems = {}

    def broken(text: str, path: KeyPath) -> str:
        reason = _unresolvable(text)
        if reason:
            problems[path] = reason
        return BROKEN if reason else text

    def too_many(_text: str, path: KeyPath) -> str:
        problems[path] = "is not resolved, because the file has too many interpolations"
        return BROKEN

    screened = _replaced(data, broken)
    if _growth(screened) > _LARGEST:
        return _replaced(screened, too_many), problems
    known = _Values(screened)
    put_in = _replaced(screened, lambda text, _path: known.value(text))
    if interpolates(put_in):
        from omegaconf import OmegaConf

        put_in = _children(put_in, OmegaConf.create(screened), (), problems)
    return put_in, problems


def _replaced(data: Any, replacement: Callable[[str, KeyPath], Any], path: KeyPath = ()) -> Any:
    """Return data in which `replacement` replaces each text with an interpolation, given the text and its path."""
    if isinstance(data, dict):
        return {key: _replaced(value, replacement, (*path, key)) for key, value in data.items()}
    if isinstance(data, list):
        return [_replaced(value, replacement, (*path, index)) for index, value in enumerate(data)]
    return replacement(data, path) if isinstance(data, str) and "${" in data else data


def _unresolvable(text: str) -> str:
    """Return why a text must not be resolved, as a predicate; empty if it may be."""
    if has_resolver(text):
        return "calls a resolver, which would read data from outside the file"
    if not _is_plain(text):
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            OmegaConf.create([text])
        except (OmegaConfBaseException, RecursionError):
            return "is not an interpolation that OmegaConf can parse"
    return ""


def _children(data: Any, config: Any, path: KeyPath, problems: Problems) -> Any:
    """Return data in which OmegaConf resolved the remaining interpolations; `config` is the same data in OmegaConf."""
    if isinstance(data, dict):
        return {key: _resolved(value, config, key, (*path, key), problems) for key, value in data.items()}
    return [_resolved(value, config, index, (*path, index), problems) for index, value in enumerate(data)]


def _resolved(data: Any, config: Any, key: str | int, path: KeyPath, problems: Problems) -> Any:
    if not interpolates(data):
        return data
    from omegaconf import DictConfig, ListConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        found = config[key]
        if isinstance(data, dict | list):
            return _children(data, found, path, problems)
        if isinstance(found, DictConfig | ListConfig):
            return OmegaConf.to_container(found, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        reason, _, _ = str(error).partition("\n")
        problems[path] = f"cannot be resolved ({reason})"
        return BROKEN
    return found


class _Values:
    """Return the texts and integers that names in plain data refer to, from the root."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._known: dict[tuple[str, int], str | int | None] = {}

    def value(self, text: str) -> str | int:
        """Return the resolved text; the text itself if only OmegaConf can resolve it."""
        found = self._value(text, _CHAIN)
        return text if found is None else found

    def _value(self, text: str, steps: int) -> str | int | None:
        """Return the resolved text, after at most so many references; None if only OmegaConf can resolve it."""
        if not _is_plain(text):
            return None
        values = [self._target(found[0][2:-1], steps) for found in _PLAIN.finditer(text)]
        if None in values:
            return None
        if _PLAIN.fullmatch(text):
            return values[0]
        parts = iter(values)
        return _PLAIN.sub(lambda _: str(next(parts)), text)

    def _target(self, name: str, steps: int) -> str | int | None:
        """Return the text or integer that a name refers to; None for other values."""
        if (name, steps) not in self._known:
            self._known[name, steps] = self._found(name, steps)
        return self._known[name, steps]

    def _found(self, name: str, steps: int) -> str | int | None:
        node: Any = self._root
        for key in name.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, str) or node == _MISSING:
            return node if type(node) is int else None
        if "${" not in node:
            return node
        return self._value(node, steps - 1) if steps else None


def _is_plain(text: str) -> bool:
    """Return whether all interpolations in a text name their node from the root, such as `${output_dir}`."""
    return "\\" not in text and "${" not in _PLAIN.sub("", text)


def _growth(data: dict[str, Any]) -> int:
    """Return an upper bound of the resolved text's length: all text, times the numbers of interpolations."""
    growth = max(1, sum(len(value) for value in leaves(data) if isinstance(value, str)))
    for value in data.values():
        for count in _references(value):
            growth = min(growth * max(1, count), _LARGEST + 1)
    return growth


def _references(node: Any) -> list[int]:
    """Return the number of interpolations of a node, then of every node below it."""
    if isinstance(node, str):
        return [node.count("${")]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    below = [_references(child) for child in children]
    return [sum(counts[0] for counts in below), *(count for counts in below for count in counts)]


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

"""Drafts: the untyped texts that the readers of documents return, with their places; and the runs that they state.

The clauses of a text are those of its sentences. A clause may be about these runs, or about one of them.
"""

import functools
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple, Self

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Collector, Finding, Scalar, lines_text, shown
from scaffold_torchtune.models import Run, Setting
from scaffold_torchtune.settings.parameters import PARAMETERS, normalize
from scaffold_torchtune.system import markdown
from scaffold_torchtune.system.layout import data_label
from scaffold_torchtune.system.markdown import STRUCK, Labelled, Section, Text
from scaffold_torchtune.torchtune_facts import FULL, LORA, OF_LORA, method_of, model_by_spelling


class Typed(NamedTuple):
    """A value, and the remark that follows it in the document."""

    value: Scalar
    remark: str = ""


@dataclass(frozen=True)
class SourceText:
    """A value's text in a document. `note` names its section and label, for messages.

    If the text is a code span, `full` also has the text after the span: a remark, or more of a free text. An `exact`
    text is verbatim, without quotes or remarks around it: text of a YAML document or a fenced block. `source` is the
    full text with the Markdown marks of emphasis, code and links. `answer`: the text is the user's answer, and is in no
    document. `last` is the last line of a text of several lines, else 0. `alone`: the text has no label. `unit` is the
    unit of its label if the value cannot be read in it; of a table with a column of units, it is that of the row.
    `label` is its label if messages need it and `note` lacks it.
    """

    text: str
    line: int
    note: str
    full: str | None = None
    exact: bool = False
    source: str | None = None
    answer: bool = False
    last: int = 0
    alone: bool = False
    unit: str = ""
    unit_of: Literal["label", "row"] = "label"
    label: str = ""

    def place(self) -> str:
        """Return the place in a sentence: `'Seeds' under 'Overview'`, or `the text under 'Overview'`."""
        is_in_note = f" {normalize(self.label)} " in f" {normalize(self.note)} "
        what = "the text" if not self.label or is_in_note else shown(self.label)
        return f"{what} under {shown(self.note)}"

    @classmethod
    def of(cls, pair: Labelled, line: int, note: str) -> Self:
        """Return the text after a label."""
        return cls(pair.value, line, note, pair.full, pair.exact, pair.source, last=pair.last)

    @classmethod
    def of_cell(cls, cell: Text, line: int, note: str) -> Self:
        """Return the text of a cell of a table."""
        begins_with_code = cell.code is not None and cell.plain.startswith(cell.code)
        text = cell.code if cell.code is not None and begins_with_code else cell.plain
        return cls(text, line, note, cell.plain, source=cell.source)


@dataclass(frozen=True)
class RowDraft:
    """A row of the table of runs: its cells by column index, without empty cells and dashes.

    `blank` are the columns with empty cells, without even a dash. `mark` is the mark of a row that is not to be run,
    `name` the text of its name, `notes` the texts of columns for people, and `estimate` its estimated time.
    """

    cells: dict[int, SourceText]
    line: int
    blank: frozenset[int] = frozenset()
    mark: str = ""
    name: str = ""
    notes: tuple[SourceText, ...] = ()
    estimate: SourceText | None = None


class UnreadLine(NamedTuple):
    """A line that looks like a setting, in a section without settings: the parameter of its label, and its value.

    `name` is empty for an unsupported setting. `label` is as written. `vague`: the label may be a word of any
    text, or the section describes the data, costs or an example. `plural`: the line gives levels, or their number.
    `is_read`: the section contains settings, each with one value.
    """

    name: str
    text: SourceText
    label: str = ""
    vague: bool = False
    plural: bool = False
    is_read: bool = False


class StatedRuns(NamedTuple):
    """The fine-tuned runs that an overview gives, its line, all other runs there, and their sum if it gives one."""

    tuned: int
    line: int
    others: int = 0
    total: int | None = None

    @classmethod
    def of(cls, text: str, line: int) -> Self | None:
        """Return the numbers of `4 fine-tuned + 1 control = 5 total` in an overview; None without fine-tuned runs."""
        text = text[:_LONGEST_OVERVIEW]
        parts = [*_STATED.finditer(text)]
        tuned = next((int(part[1]) for part in parts if part[2].lower().startswith("fine")), None)
        if tuned is None:
            return None
        others, total = sum(int(part[1]) for part in parts) - tuned, _TOTAL.search(text, parts[-1].end())
        return cls(tuned, line, others, int(total[1] or total[2]) if total and others else None)


_LONGEST_OVERVIEW: Final = 400  # characters
_STATED: Final = re.compile(r"\b([0-9]{1,5})\s+(fine[\s-]?tun|control|base|eval)", re.IGNORECASE)
_TOTAL: Final = re.compile(r"=\s*([0-9]{1,5})\b|\b([0-9]{1,5})\s+(?:runs?\s+)?(?:in\s+)?total\b", re.IGNORECASE)


class OfGroup(NamedTuple):
    """A statement of the heading `text` of a group of rows: a parameter, its value, and the lines of the rows.

    `name` is empty if the value is an unsupported training.
    """

    name: str
    value: Scalar
    text: SourceText
    lines: frozenset[int]


@dataclass
class Draft(Collector):
    """The content of a document, with its problems. In a document that is not `readable`, no field counts as missing.

    `sections` has the line of each section by its name in messages: `Configuration > Training`. `text` is the whole
    document.
    """

    file: str
    sections: dict[str, int] = field(default_factory=dict)
    readable: bool = True
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(self.file)

    def read_markdown(self, text: str) -> Section | None:
        """Return the sections of the document; report a document that cannot be read."""
        try:
            return markdown.read(text)
        except markdown.MarkdownError as error:
            self.add("invalid-value", f"the document cannot be read: {error.message}", line=error.line, fix=error.fix)
            self.readable = False
            return None

    def note_struck(self, root: Section, is_setting: Callable[[str], bool]) -> set[int]:
        """Report settings that are struck out, completely or in part, and return their lines."""
        texts = [(text.line, text.labelled()) for section in root.walk() for text in section.struck]
        lines = [line for line, pair in texts if pair is not None and is_setting(pair.label)]
        if lines:
            message = "text that is struck out is not read" + (f" ({lines_text(lines)})" if len(lines) > 1 else "")
            fix = "no action if that is intended; otherwise remove the ~~ around the text"
            self.add("unused-field", message, field="struck", line=lines[0], fix=fix, severity=Severity.INFO)
        return set(lines)


@dataclass
class SummaryDraft(Draft):
    """An experiment summary, with untyped values.

    `tuned` are the lines of the rows of fine-tuned runs, `named` those of each name of a group of them, with the kind
    of the name: a parameter for its value, `method`, or nothing for any other name.
    `groups` are what headings of groups of rows say, apart from plain settings, which are notes of the rows.
    `stated_runs` are the numbers of runs that its overview gives, with the line.
    `levels` are the values of parameters in its section Variables.
    `unread_lines` look like settings but were not read; `note` has the title of their section.
    `prose` are texts that explain the experiment, `notes` such texts among the settings of all runs.
    `names` are patterns and examples of the names of run directories and outputs.
    `model_paths` are the paths in its section Models, and those of labels such as `Model path` elsewhere, by label.
    `other_data` are listed files of data with an unsupported format, which a row may name.
    `skipped` are the lines of settings below a label that says that they are not of all runs.
    `aside` has the title above each line of a setting that is not read because of that title.
    `data_claims` are statements about the data set's file other than its path: its `format`, its `label`.
    `samples` are numbers of training samples that the section about the data set gives.
    `unasked` are findings that no answer for all runs settles, because each is about one run.
    """

    name: SourceText | None = None
    directories: list[SourceText] = field(default_factory=list)
    columns: list[SourceText] = field(default_factory=list)
    rows: list[RowDraft] = field(default_factory=list)
    tuned: set[int] = field(default_factory=set)
    named: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    groups: list[OfGroup] = field(default_factory=list)
    models: list[tuple[str, SourceText]] = field(default_factory=list)
    models_dirs: list[SourceText] = field(default_factory=list)
    model_paths: list[tuple[str, SourceText]] = field(default_factory=list)
    datasets: list[SourceText] = field(default_factory=list)
    other_data: list[SourceText] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    configuration: list[tuple[str, SourceText]] = field(default_factory=list)
    wandb_project: SourceText | None = None
    output_dirs: list[SourceText] = field(default_factory=list)
    stated_runs: StatedRuns | None = None
    levels: list[tuple[str, SourceText]] = field(default_factory=list)
    unread_lines: list[UnreadLine] = field(default_factory=list)
    skipped: set[int] = field(default_factory=set)
    aside: dict[int, str] = field(default_factory=dict)
    prose: list[SourceText] = field(default_factory=list)
    notes: list[SourceText] = field(default_factory=list)
    names: list[SourceText] = field(default_factory=list)
    data_claims: list[tuple[str, SourceText]] = field(default_factory=list)
    samples: list[SourceText] = field(default_factory=list)
    unasked: list[Finding] = field(default_factory=list)


@dataclass
class LocalDraft(Draft):
    """A claude.local.md, with untyped values: texts by the name of the setting.

    `block` is the first line of the block of YAML that contains its settings, or 0. `prose` are texts that may mention
    properties of jobs or of Weights & Biases.
    """

    block: int = 0
    prose: list[SourceText] = field(default_factory=list)
    settings: dict[str, SourceText] = field(default_factory=dict)


@dataclass
class TemplateDraft:
    """The values of a template by key: `settings` if the key is known, else `others`.

    `doubtful` has problems of values that a document may override; such a setting has its text as value. `problems` are
    those of the file. If it is not `readable`, its values are unknown.
    """

    settings: dict[str, Setting] = field(default_factory=dict)
    others: dict[str, Setting] = field(default_factory=dict)
    doubtful: dict[str, Finding] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)
    readable: bool = True

    def gives(self, name: str) -> bool:
        """Return whether a setting is, or may be, given."""
        return name in self.settings or not self.readable

    def unusable(self, given: Container[str]) -> list[Finding]:
        """Return the problems of the file, and of values that no document has `given`."""
        return [*self.problems, *(problem for name, problem in self.doubtful.items() if name not in given)]


@dataclass(frozen=True)
class TunedRuns:
    """The fine-tuned runs of the documents: their rows, and the settings that all share.

    `models` are the models of all rows, `data` the data sets that the summary lists.
    """

    runs: Sequence[Run]
    config: Mapping[str, Setting]
    models: frozenset[str] = frozenset()
    data: Sequence[SourceText] = ()
    counted: dict[str, dict[Scalar, int]] = field(default_factory=dict, repr=False)

    def of(self, name: str, run: Run) -> Scalar:
        """Return a run's value of a parameter: its own, the shared one, the default or a derived one."""
        if name in {*OF_LORA, "lora_alpha_ratio"} and self.method(run) == FULL:
            return None
        planned = run.parameters.get(name) or self.config.get(name)
        if planned is not None and name != "effective_batch_size":
            return planned.value
        match name:
            case "nodes":
                return 1
            case "model":
                return run.model
            case "dataset":
                return self.data[0].text if self.has_one_data_set() else None
            case "lora_alpha":
                rank, ratio = self.of("lora_rank", run), self.of("lora_alpha_ratio", run)
                return round(float(str(ratio)) * rank) if isinstance(rank, int) else None
            case "lora_alpha_ratio":
                alpha, rank = (
                    run.parameters.get("lora_alpha") or self.config.get("lora_alpha"),
                    self.of("lora_rank", run),
                )
                return alpha.integer / rank if alpha is not None and isinstance(rank, int) else 2.0
            case "effective_batch_size":
                batch, steps, gpus = (self.of(n, run) for n in ("batch_size", "gradient_accumulation_steps", "gpus"))
                is_known = isinstance(batch, int) and isinstance(steps, int) and isinstance(gpus, int)
                return batch * steps * gpus if is_known else None  # type: ignore[operator]
        return PARAMETERS[name].default

    def levels(self, name: str) -> dict[Scalar, int]:
        """Return the runs' values of a parameter, each with its number of runs."""
        if name not in self.counted:
            self.counted[name] = Counter(self.of(name, run) for run in self.runs)
        return self.counted[name]

    def steps(self, name: str) -> dict[Scalar, int]:
        """Return the steps of all epochs of runs with a limit per epoch, because documents may give either number."""
        found = Counter[Scalar]()
        for run in self.runs if name == "max_steps_per_epoch" else ():
            limit, epochs = self.of(name, run), self.of("epochs", run)
            if isinstance(limit, int) and isinstance(epochs, int):
                found[limit * epochs] += 1
        return found

    @functools.cached_property
    def methods(self) -> frozenset[str | None]:
        """The methods of the runs; None for an unknown one."""
        return frozenset(map(self.method, self.runs))

    def method(self, run: Run) -> str | None:
        """Return the method of a run; None if it is unknown."""
        recipe = run.parameters.get("recipe") or self.config.get("recipe")
        return LORA if recipe is None else method_of(recipe.text)

    def has_one_data_set(self) -> bool:
        """Return whether the summary lists one data set, perhaps in several places."""
        return len({posixpath.basename(text.text) for text in self.data}) == 1

    def uses_model(self, name: str, *, exact: bool) -> bool:
        """Return whether a run may use a model; unless `exact`, a base model may mean its instruct version."""
        meant = model_by_spelling(name)
        used = [model_by_spelling(model) for model in self.models]
        if meant is None or None in used or meant in used:
            return True
        return not exact and any(each and each.name.startswith(meant.name) for each in used)

    def uses_file(self, path: str, runs: Sequence[Run]) -> bool:
        """Return whether one of some runs may use a data set, or its data set is unknown."""
        return any(_is_same_file(path, self.of("dataset", run), self.data) for run in runs)

    def agrees(self, group: OfGroup, run: Run) -> bool:
        """Return whether a run is, or may be, as the heading of its group says."""
        name, value = group.name, str(group.value)
        if name == "recipe":
            return self.method(run) in {None, value}
        if name == "dataset":
            return self.uses_file(value, [run])
        if name != "model":
            return bool(name) and (group.value is None or self.of(name, run) in {None, group.value})
        if value.endswith(("B", "b")) and value[0].isdigit():  # a size
            return value.casefold() in re.split(r"[^a-z0-9.]+", run.model.casefold())
        return replace(self, models=frozenset({run.model}), counted={}).uses_model(value, exact=False)

    def replicates(self) -> set[int]:
        """Return the numbers of runs per condition, which is everything except the seed."""
        names = {name for run in self.runs for name in run.parameters} - {"seed"}
        conditions = Counter(
            (run.model, *(str(self.of(name, run)) for name in sorted(names - {"model"}))) for run in self.runs
        )
        return set(conditions.values())


def _is_same_file(path: str, used: Scalar, listed: Sequence[SourceText]) -> bool:
    """Return whether a data set may be the one that a run uses: a path, or the name of a listed one."""
    if used is None:
        return True
    named = [text.text for text in listed if text.note.rpartition(" > ")[2] == used]
    names = {posixpath.basename(str(each)) for each in (used, *named)}
    return posixpath.basename(path) in names or (data_label(str(used))[1] == "" and data_label(path)[0] == used)


# --- clauses

_CITATION: Final = re.compile(
    r"\((?:[^()]{0,80}(?:et al|[12][0-9]{3}[a-z]?))[^()]{0,80}\)|\[@[^\]]{1,80}\]|\[[0-9, ]{1,20}\]"
)
_ABBREVIATED: Final = re.compile(r"(?<!\w)(max)\.(?= (?:seq\w{0,6}\.? |context )?len)", re.IGNORECASE)
LONGEST: Final = 2_000  # characters of a text that are searched
_OF_THIS_PLAN: Final = re.compile(r"^\W{0,9}(?:[A-Za-z-]{1,30} ){0,2}plan: ", re.IGNORECASE)
"""The label of a text about the runs of this experiment, not about other ones: `Plan: All runs use ...`."""

_CLAUSES: Final = re.compile(
    r"(?<=[.!?;])(?<!al\.)(?<!cf\.)(?<!vs\.)(?<!e\.g\.)(?<!i\.e\.) | [–—] "
    r"|, (?=but\b|while\b|whereas\b|although\b|as\b|following\b|like\b)"
)
NOT_NOW: Final = re.compile(
    r"\?|(?<!\w)(?:later|future|next|eventually|afterwards|someday|todo|tbd|maybe|perhaps|possibly|might|may|could|would"
    r"|should (?:we|i)|if|whether|when|consider\w*|plann?(?:ed|ing)?|hope|previous\w*|earlier|prior"
    r"|last (?:time|year|week|month|experiment|run|sweep)|originally"
    r"|initially|once|was|were|had|did|didn't|has been|have been|failed|crashed|papers?|et al|authors?|literature"
    r"|researchers|people|others|they|many|most (?:of|people|labs|work)|works?"
    r"|reported|shown|showed|known|popular|typical\w*|often|usual\w*"
    r"|follow-?up|out of scope|left (?:for|out|to)|abandoned|ruled out|dropped|alternative\w*|hypothes\w*|expect\w*"
    r"|question|see|cf|such as|e\.g|for example|related|pending|not (?:part|yet|used|done|needed)|compar\w+|vs\.?"
    r"|versus|ablations?|study whether|benefits?|cheaper|faster|better|worse|best)(?!\w)",
    re.IGNORECASE,
)
"""Words that show that a clause is about another time, other people or a comparison."""

_COMPARED: Final = re.compile(
    r"(?<!\w)(?:compar\w+|plan(?:ned|s)?|vs\.?|versus|ablations?|study whether)(?!\w)", re.IGNORECASE
)
"""Words of a comparison that, in a clause about levels, describe the runs themselves: `We compare three ranks`."""


def plain_text(text: str) -> str:
    """Return a text without citations, text that is struck out, and line breaks."""
    written = " ".join(STRUCK.sub(" ", _CITATION.sub(" ", text[:LONGEST])).split())
    return _ABBREVIATED.sub(r"\1", written)


def clauses(text: str) -> list[str]:
    """Return the clauses of a text."""
    return _CLAUSES.split(_OF_THIS_PLAN.sub("", plain_text(text), count=1))


def clauses_now(text: str, *, of_levels: bool = False) -> Iterator[str]:
    """Yield the clauses about these runs; a comparison is one if it may be `of_levels` of the runs."""
    for clause in clauses(text):
        if not NOT_NOW.search(_COMPARED.sub(" ", clause) if of_levels else clause):
            yield clause


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_COMPARES: Final = word_set(
    "unlike than relative instead rather like alike similar from as over against beat beats match matches "
    "outperform outperforms replace replaces baseline reference between either without avoid avoids no "
    "not nor never skip skips exclude excludes omit omits lacks non half memory"
)
_DOES: Final = word_set("use uses using with via by train trains fine-tune fine-tunes apply applies run runs")
_DENIES: Final = frozenset(["not", "never", "don't", "doesn't", "won't", "cannot", "can't", "nor", "without"])
_NEAR: Final = 4  # words before a name


def is_compared(before: str) -> bool:
    """Return whether one of the last words before a name is a comparison or denial: `unlike the DoRA`."""
    words = [word.strip("()[],.:;*`'\"") for word in before[-80:].lower().split()[-_NEAR - 1 :]]
    for i in range(len(words) - 1, max(len(words) - 1 - _NEAR, -1), -1):
        if words[i] in _DOES:
            return i > 0 and words[i - 1] in _DENIES
        if words[i] in _COMPARES:
            return True
    return False


_NAMES_RUN: Final = r"(?:of|for|in) (?:run )?`?(?P<name>[^\s`]{1,60}?)`?"
_LABEL: Final = r"(?:the |its )?(?P<label>[a-z][a-z-]{1,20}(?: [a-z]{1,20}){0,2})"
_PIECES: Final = re.compile(
    r"(?<=[;,:]) |(?<!except)(?<!only) (?=(?:and|but|while|whereas|with|using|for|on|at|in)(?!\w))|[()]", re.IGNORECASE
)
_REASON: Final = re.compile(r",? (?:because|since|due to|so that|as it|which (?:was|is|has)) ", re.IGNORECASE)
_WAS_GIVEN: Final = re.compile(r"(?<!\w)(?:was|were|is|are) given(?!\w)", re.IGNORECASE)
_CHANGED: Final = re.compile(
    rf"(?:doubl|halv|increas|reduc|rais|lower|decreas|chang|set)\w{{0,4}} {_LABEL}"
    r" (?:to |\()(?P<value>[0-9][\w.-]{0,15})\)?",
    re.IGNORECASE,
)
_NOT_THE_TRAINING: Final = re.compile(
    r"(?<!\w)(?:eval\w*|infer\w*|decod\w+|generat\w+|judg\w+|scor\w+|test\w*|sampling|sampler|split\w*|shuffl\w+"
    r"|controls?|per|total|overall|parallel|at (?:once|most|least)|up to|about|approximately|around|roughly|every"
    r"|nodes?|first|last|until|after|before|within|or|between|than|never)(?!\w)",
    re.IGNORECASE,
)
"""Words after which a number may not be that of a run."""
_BEFORE_NAME: Final = re.compile(
    r"\W{0,9}(?:(?:note|nb|exception|remark)s?:? )?(?:(?:and|but|while|whereas|only|except|for|in) ){0,3}"
    r"(?:(?:the )?runs? )?`?",
    re.IGNORECASE,
)
_VERB: Final = re.compile(r"(?:uses?|has|have|gets?|runs|trains?|is|are|needs?|we|which)(?!\w)", re.IGNORECASE)
_TRAINS: Final = re.compile(
    r"(?:(?:and|we|it|which) )?(?:is |are )?(?:only |also )?(?:train(?:s|ed)?|runs?|fine-?tun(?:ed|es|e))"
    r"|(?:(?:with|using|uses|use) )?(?:the )?adamw(?: optimi[sz]er)?",
    re.IGNORECASE,
)
_VALUE_OF_RUN: Final = re.compile(rf"{_LABEL} {_NAMES_RUN} (?:is|=) (?P<value>.{{1,40}})", re.IGNORECASE)
_FOR_RUN: Final = re.compile(rf" {_NAMES_RUN}[.!;]?$", re.IGNORECASE)
_LONGEST_NAME: Final = 6  # words


class OfRuns(NamedTuple):
    """A statement of a sentence about single runs: the names of the runs, the text, and its form as a note."""

    names: tuple[str, ...]
    text: str
    note: str


def of_single_runs(text: str, names: Container[str], read: Callable[[str], str]) -> Iterator[OfRuns]:
    """Yield the statements about single runs in a text: `uses two GPUs` in `big uses two GPUs`.

    `names` are those of all runs. `read` returns a part of a clause as a note if it is a statement, else an empty text.
    """
    for whole in clauses(text):
        clause = _CHANGED.sub(r"\g<label> \g<value>", _WAS_GIVEN.sub("gets", _REASON.split(whole, 1)[0]))
        if NOT_NOW.search(clause) or _NOT_THE_TRAINING.search(clause):
            continue
        value, end = _VALUE_OF_RUN.match(clause), _FOR_RUN.search(clause)
        pieces, subjects = _PIECES.split(clause), tuple[str, ...]()
        if value and value["name"] in names:
            pieces, subjects = [f"{value['label']} {value['value']}"], (value["name"],)
        elif end and end["name"] in names and end.start():
            pieces, subjects = _PIECES.split(clause[: end.start()]), (end["name"],)
        yield from _with_subjects(list(filter(None, pieces)), names, subjects, read)


def _with_subjects(
    pieces: Sequence[str], names: Container[str], subjects: tuple[str, ...], read: Callable[[str], str]
) -> Iterator[OfRuns]:
    """Yield the statements in the pieces of a clause: those after names of runs, and others that follow directly."""
    begun, is_read = tuple[str, ...](), bool(subjects)
    for i, piece in enumerate(pieces):
        name, rest = _subject(piece, names)
        if name and not rest.strip(" ,:.;"):
            begun += (name,)
            continue
        is_of_model = rest[:3] == "has" and model_by_spelling(name) is not None  # `has a context length of ...`
        if name and (subjects or _VERB.match(rest)) and not is_of_model:
            subjects, is_read = (*begun, name), True
        elif begun and len(begun) == i:
            subjects, is_read, rest = begun, True, piece
        else:
            rest = piece
        begun = ()
        note = read(rest) if subjects and (is_read or _VERB.match(rest)) else ""
        if note:
            yield OfRuns(subjects, rest, note)
        is_read = bool(note) or (is_read and _TRAINS.fullmatch(rest.strip()) is not None)


def _subject(piece: str, names: Container[str]) -> tuple[str, str]:
    """Return the name of a run at the beginning of a text, and the rest; empty texts if it begins otherwise."""
    begin = _BEFORE_NAME.match(piece)
    words = piece[begin.end() if begin else 0 :].split(" ")
    for count in range(min(len(words), _LONGEST_NAME), 0, -1):
        name = " ".join(words[:count]).rstrip(",:;.`")
        if name in names and not name.isdigit():
            return name, " ".join(words[count:])
    return "", ""

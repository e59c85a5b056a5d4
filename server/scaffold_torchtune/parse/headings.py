"""Headings of a Markdown summary, and unread lines below them that look like settings."""

import bisect
import functools
import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import replace
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import counted, few, lines_text, shown, with_line_feeds
from scaffold_torchtune.parse import compound, notations
from scaffold_torchtune.parse.drafts import SourceText, StatedRuns, SummaryDraft, UnreadLine
from scaffold_torchtune.settings.parameters import by_label, by_plural, normalize
from scaffold_torchtune.settings.unsupported import NOT_PLANNED
from scaffold_torchtune.system.markdown import COLONS, STRUCK, Bullet, Section, Table, Text
from scaffold_torchtune.torchtune_facts import model_by_spelling

FOR_PEOPLE: Final = frozenset(
    {"notes", "note", "purpose", "used by", "description", "motivation", "hypothesis", "question", "goal", "background"}
    | {"rationale", "why", "reference", "references", "citation", "paper", "related work", "comment", "comments"}
    | {"baseline", "remark", "remarks", "objective", "explanation", "reason"}
)
"""Labels of remarks, which are not settings."""

_OF_OTHERS: Final = frozenset({"used by", "reference", "references", "citation", "paper", "related work", "baseline"})

RUNS: Final = "All Runs"
_RUNS: Final = frozenset(
    {"all runs", "fine tuning runs", "finetuning runs", "runs", "fine tuned runs", "finetuned runs", "planned runs"}
)
_MORE_RUNS: Final = frozenset({"additional", "more", "further", "extra"})
_ENDS_OF_RUNS: Final = (" runs", "run table", "run matrix", "run list", "runs table", "runs matrix")
_NOT_PLANNED: Final = frozenset(
    [
        "evaluation", "eval", "evaluations", "inference", "previous", "past", "prior", "old", "earlier", "completed",
        "finished", "failed", "example", "examples", "number", "expected", "no", "without", "notes",
    ]
)  # fmt: skip
_NUMBER: Final = re.compile(r"^(?:[0-9]{1,4}(?:\.[0-9]{1,4}){0,4}|[IVX]{1,6})[.):]?\s+")
_LONGEST: Final = 300
_FEW: Final = 6
_MARKS: Final = " \t>|*+-_`~"
_MARKS_BEHIND: Final = " \t|*_`~"
_BEFORE_LABEL: Final = re.compile(r"\[[ xX]\]|[0-9]{1,9}[.)]|<[a-z]{1,20}>")
_ROW_OF_A_SETTING: Final = (2, 3)  # number of cells: name, value, and perhaps a remark
_COLUMNS: Final = frozenset(
    {"path", "file", "location", "value", "values", "level", "levels", "setting", "size", "samples", "count", "number"}
    | {"description", "notes", "default"}
)
OF_JOBS: Final = frozenset({"account", "partition", "constraint", "qos", "reservation", "time", "gpus", "mem"})
_SEPARATOR: Final = re.compile(rf"[{COLONS}=]")
NOT_ALL_RUNS: Final = re.compile(
    r"\b(?:controls?|baselines?|exclud\w+|exclusions?|except\w*|omit\w*|skip\w*|fraction(?:al)? factorial|unless"
    r"|one[- ](?:factor|variable)[- ]at[- ]a[- ]time|(?:not|random|subset|some|latin)[- ](?:all|search|combinations)"
    r"|paired|pairwise|without)\b",
    re.IGNORECASE,
)
"""Words of a summary that may leave some combinations out of a grid, or add runs to it."""


@functools.lru_cache(maxsize=2048)  # each title is tested many times
def plain(title: str) -> str:
    """Return a title without its number, a (remark) at its end, case, emphasis and symbols."""
    title = _NUMBER.sub("", title[:_LONGEST].strip())
    return normalize(title.rpartition("(")[0] if title.endswith(")") and "(" in title else title)


def _called(*titles: str) -> Callable[[str], bool]:
    return lambda title: plain(title) in titles


def _with_a_word_of(words: str) -> Callable[[str], bool]:
    known = frozenset(words.split())
    return lambda title: not known.isdisjoint(plain(title).split())


is_models: Final = _called("models", "model", "base models", "base model")
"""Return whether a section lists the base models."""

is_data: Final = _called("dataset", "data set", "datasets", "data", "training data")
"""Return whether a section names the data set."""

is_configuration: Final = _called(
    "configuration", "training configuration", "hyperparameters", "training hyperparameters", "shared configuration",
    "shared hyperparameters", "common configuration", "common hyperparameters", "fixed hyperparameters",
    "fixed parameters", "training parameters", "training settings", "training", "training setup", "training config",
    "common settings", "fixed settings", "prompts", "fine tuning hyperparameters", "controls", "controlled variables",
    "constants", "fine tuning configuration", "setup", "experimental setup", "experiment setup", "settings",
    "experiment settings", "experiment configuration", "config", "training details", "fine tuning", "finetuning",
    "fine tuning setup", "fine tuning settings", "run settings", "shared settings", "shared parameters",
    "common parameters", "global settings", "default settings", "base settings", "base configuration", "parameters",
    "hyper parameters", "common setup", "model and training", "training and model", "optimization", "optimisation",
)  # fmt: skip
"""Return whether a section contains the settings that all runs share."""

is_jobs: Final = _called(
    "slurm",
    "slurm settings",
    "slurm configuration",
    "slurm defaults",
    "slurm options",
    "job settings",
    "jobs",
    "job",
    "job configuration",
    "compute",
    "compute settings",
    "compute configuration",
    "compute resources",
    "compute requirements",
    "resources per run",
    "resource requirements",
    "batch settings",
    "cluster settings",
    "sbatch",
    "sbatch options",
    "scheduler settings",
    "environment settings",
)
"""Return whether a section contains resources of jobs."""

is_about_machines: Final = _with_a_word_of("hardware cluster machine machines node nodes infrastructure environment")
"""Return whether a section may describe machines instead of jobs."""

_is_overview: Final = _called("overview", "summary", "experiment overview", "experimental design", "design")

is_output: Final = _called("output", "outputs", "output paths")
"""Return whether a section names directories for outputs."""

is_factors: Final = _with_a_word_of("variables factors independent")
"""Return whether a section lists the varying parameters; the values are those of the runs."""

EVALUATION: Final = "evaluation evaluations eval evals evaluating inference"
"""Words of titles about evaluation, in both documents."""
_AFTER_TRAINING: Final = f"{EVALUATION} generation scoring"
_is_of_evaluation: Final = _with_a_word_of(_AFTER_TRAINING)
is_elsewhere: Final = _with_a_word_of(
    f"{_AFTER_TRAINING} scorer grading judge analysis inspect benchmark results previous metric metrics statistics"
    " statistical bootstrap"
)
"""Return whether a section is not about training, but about evaluation or generation of data."""

is_of_intervals: Final = _with_a_word_of(
    "every interval intervals frequency strategy patience period checkpoint checkpoints checkpointing save saves saving"
    " evaluate evaluates validate validation log logs logging keep warm warmup warming"
)
"""Return whether a label is about an interval, so that a number of epochs is not the length of the training."""

# Sections about runs that contain no settings: `Compute Estimates > Training`.
_is_of_methods: Final = _called(
    "method",
    "methods",
    "approach",
    "technique",
    "fine tuning method",
    "training method",
    "fine tuning approach",
    "training approach",
    "finetuning method",
    "methodology",
)
_BEFORE_THE_RUNS: Final = frozenset(["pilot", "pilots", "earlier", "preliminary"])
_OF_ANOTHER_PLAN: Final = _BEFORE_THE_RUNS | {"rejected", "unused", "discarded", "abandoned", "previous"}
_TAKEN_FROM: Final = frozenset(
    ["from", "chosen", "based", "following", "selected", "as", "by", "after", "like", "same", "in", "with"]
)
# `Earlier stopping` and `Discarded samples` are about the training.
_NO_PLANS: Final = frozenset(
    ["stopping", "stop", "sample", "samples", "example", "examples", "token", "tokens", "responses", "layers"]
)
_NOT_USED: Final = re.compile(r"(?<!\w)not (?:used|chosen|adopted|applied|in use)(?!\w)", re.IGNORECASE)
_VALIDATION: Final = frozenset({"run_val_every_n_steps", "batch_size_val"})
_is_of_other_matters: Final = _with_a_word_of(
    "related background literature references bibliography prior future limitations ideas todo next appendix discussion"
    " alternatives considered questions history changelog scope risks later glossary faq acknowledgements contact"
    " contacts people team authors"
)


def is_of_another_plan(title: str) -> bool:
    """Return whether a title is of settings that the runs do not have: `Pilot experiment`, `Not used`.

    Those `from the pilot` are settings of the runs.
    """
    words = set(plain(title).split())
    is_of_it = bool(words & _OF_ANOTHER_PLAN) and words.isdisjoint(_TAKEN_FROM | _NO_PLANS)
    return is_of_it or _NOT_USED.search(title[:_LONGEST]) is not None


def of_this_plan(root: Section) -> Section:
    """Return a document in which other titles lack such a word of its own title or of its runs: `# Pilot study`.

    `Pilot configuration` is then Configuration, unless the document has that section too.
    """
    sections = [(section, above) for section, above in _walk(root) if is_runs(section.title)]
    sections = [pair for pair in sections if is_exactly_runs(pair[0].title)] or sections
    titles = [root.sections[0].title] if root.sections and root.sections[0].level == 1 else []
    titles += [title for section, above in sections for title in (*above, section.title)]
    own = {word for title in titles if is_of_another_plan(title) for word in plain(title).split()} & _OF_ANOTHER_PLAN
    return _without(root, own, {plain(section.title) for section in root.walk()}) if own else root


def _without(section: Section, own: set[str], titles: set[str]) -> Section:
    """Return a section without some words in titles, unless that makes a title empty, or equal to one of `titles`."""
    title = _reduced(section.title, own)
    is_kept = is_runs(section.title) or plain(title) in titles | {""}
    below = [_without(one, own, titles) for one in section.sections]
    return replace(section, title=section.title if is_kept else title, sections=below)


def _reduced(title: str, words: Container[str]) -> str:
    return " ".join(word for word in title.split() if normalize(word) not in words)


def _is_of_others(title: str) -> bool:
    return is_of_another_plan(title) or _is_of_other_matters(title)


def of_other_work(label: str, bullet: Bullet, draft: SummaryDraft) -> set[int]:
    """Return the lines of bullets below a label that are not settings of the training, such as those of an evaluation.

    Those of another plan are noted.
    """
    if is_of_another_plan(label):
        below = {child.text.line: child.text.labelled() for child in bullet.all_children()}
        settings = [line for line, pair in below.items() if pair and pair.value and _is_setting(pair.label)]
        _put_aside(settings, label, draft)
        return {*below}
    is_evaluation = _is_of_evaluation(label)
    pairs = [(child, child.text.labelled()) for child in bullet.children if is_evaluation]
    known = [(child, by_label(pair.label)) for child, pair in pairs if pair is not None]
    return {child.text.line for child, one in known if one and one.column and one.name not in _VALIDATION}


def _put_aside(lines: Iterable[int], title: str, draft: SummaryDraft) -> None:
    """Note lines of settings that are not read because of their title, unless that is about evaluation."""
    draft.aside |= dict.fromkeys(lines, title) if not is_elsewhere(title) else {}


def _is_setting(label: str) -> bool:
    parameter = by_label(label)
    return parameter is not None and parameter.column and normalize(label) not in parameter.words


def _note_aside(draft: SummaryDraft) -> None:
    """Report settings below titles of another plan, as a warning if one may be of the runs: `Preliminary settings`."""
    if draft.aside:
        lines, titles = sorted(draft.aside), [*dict.fromkeys(draft.aside.values())]
        where = few([shown(title) for title in titles], _FEW) + (f" ({lines_text(lines)})" if len(lines) > 1 else "")
        message = f"the settings under {where} are not read, because the heading suggests that the runs do not use them"
        fix = "no action if that is intended; otherwise move them to Configuration"
        is_doubtful = any(is_configuration(_reduced(title, _BEFORE_THE_RUNS)) for title in titles)
        severity = None if is_doubtful else Severity.INFO
        draft.add("unused-field", message, field="configuration", line=lines[0], fix=fix, severity=severity)


_is_example: Final = _with_a_word_of("example examples command commands script scripts template templates usage")
_is_report: Final = _with_a_word_of("estimates estimate estimated cost costs budget naming status progress")


def stated_runs(root: Section) -> StatedRuns | None:
    """Return the numbers of runs of `- **Runs:** 4 fine-tuned + 1 control` in an overview, the last of several."""
    found = None
    for bullet in (bullet for section in root.walk() if _is_overview(section.title) for bullet in section.bullets):
        pair = bullet.text.labelled()
        if pair and "runs" in normalize(pair.label).split():
            found = StatedRuns.of(pair.full, bullet.text.line) or found
    return found


def captions(section: Section, i: int) -> list[SourceText]:
    """Return the captions of a table of a section: `**Full fine-tuning:**` above it, `Table 1: LoRA runs`."""
    begins = [table.line for table in section.tables]
    first, last, is_last = begins[i - 1] if i else 0, begins[i], i == len(begins) - 1
    found = []
    for text in section.paragraphs:
        is_table = _CAPTION.match(text.plain) is not None
        is_title = is_table or text.plain.endswith(":") or text.lead.rstrip(": .") == text.plain.rstrip(": .")
        is_at = first < text.line < last or (is_table and is_last and text.line > last)
        if is_title and is_at and "\n" not in text.plain.strip():
            found.append(SourceText(text.plain, text.line, f"the caption {shown(text.plain)}"))
    return found


_CAPTION: Final = re.compile(r"(?:table|tab\.) ?[0-9]{1,3}[.: ]", re.IGNORECASE)


def models_in(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the models that words name, in any spelling, and the other words."""
    for size in range(min(len(words), _LONGEST_MODEL), 0, -1):
        for i in range(len(words) - size + 1):
            model = model_by_spelling(" ".join(words[i : i + size]))
            if model is not None:
                names, rest = models_in([*words[:i], *words[i + size :]])
                return [model.name, *names], rest
    return [], words


_LONGEST_MODEL: Final = 6  # words


def is_runs(title: str) -> bool:
    """Return whether a section contains the table of runs: `All Runs`, `3. Planned Runs (4 total)`."""
    words = plain(title)
    return words in _RUNS or (f" {words}".endswith(_ENDS_OF_RUNS) and not _NOT_PLANNED & set(words.split()))


def is_exactly_runs(title: str) -> bool:
    """Return whether a section has one of the usual titles for runs; other sections then only describe runs."""
    words = plain(title)
    return words in _RUNS or bool(_MORE_RUNS & set(words.split()))


def is_prompt(title: str) -> bool:
    """Return whether a section contains the free text that its title names: `System prompt`."""
    parameter = by_label(plain(title))
    return parameter is not None and parameter.kind == "text" and parameter.column


def is_of_content(title: str) -> bool:
    """Return whether a title names a section to read, and not an experiment."""
    return any(is_one(title) for is_one in (is_exactly_runs, is_models, is_data, is_configuration, is_prompt))


def lines_of(root: Section, above: str = "") -> dict[str, int]:
    """Return the line of each section by its name in messages, `Resources > Models`; the first of equal names."""
    lines: dict[str, int] = {}
    for section in root.sections:
        title = section.title
        name = RUNS if is_runs(title) else "Models" if is_models(title) else "Dataset" if is_data(title) else title
        path = f"{above} > {name}" if above else name
        below = lines_of(section, path if section.level > 1 else "")
        for found, line in [(path, section.line), *below.items()]:
            lines.setdefault(found, line)
    return lines


def of_training(root: Section) -> Iterator[Section]:
    """Yield the sections that are neither about evaluation or other work, nor about outputs or examples."""
    skipped = (is_elsewhere, _is_of_others, is_output, _is_example)
    for section, above in _walk(root):
        if not any(is_one(title) for title in (*above, section.title) for is_one in skipped):
            yield section


def _is_title(first: Section) -> bool:
    """Return whether the first section of a document contains the whole document, under its title."""
    return first.level == 1 and bool(first.sections) and not first.tables and not first.bullets


def topmost(root: Section, is_wanted: Callable[[str], bool]) -> Iterator[Section]:
    """Yield the outermost sections with a wanted title that are not below runs or evaluation.

    The document's own title is ignored, because it may be `# Evaluation of LoRA runs`.
    """
    for i, section in enumerate(root.sections):
        if i == 0 and _is_title(section):
            yield from topmost(section, is_wanted)
        elif is_wanted(section.title):
            yield section
        elif not (
            is_elsewhere(section.title)
            or is_runs(section.title)
            or _is_report(section.title)
            or (is_of_another_plan(section.title) and not any(is_runs(below.title) for below in section.walk()))
        ):
            yield from topmost(section, is_wanted)


ESTIMATES: Final = ("est time", "estimated time", "est runtime", "estimated runtime", "est duration", "expected time")
"""The beginnings of labels of estimated times of runs."""


def prose(root: Section, above: tuple[str, ...] = ()) -> Iterator[SourceText]:
    """Yield texts that explain the experiment, except sections about other people, other times or the data."""
    for i, section in enumerate(root.sections):
        title = section.title
        if not (i == 0 and _is_title(section)) and (_is_of_others(title) or is_elsewhere(title) or is_prompt(title)):
            continue
        if not (is_data(title) or is_models(title) or is_output(title) or is_factors(title) or _is_report(title)):
            of_settings = is_configuration(title) or any(map(is_configuration, above))
            for text in (*section.paragraphs, *(bullet.text for bullet in section.all_bullets())):
                pair = text.labelled()
                label = "" if pair is None else normalize(pair.label)
                is_setting = label and label not in FOR_PEOPLE and (of_settings or by_label(label) is not None)
                if not is_setting and label not in _OF_OTHERS:
                    stated = pair.full if pair is not None and label in FOR_PEOPLE else text.plain
                    stated = f"Method: {stated}" if _is_of_methods(title) else stated
                    yield SourceText(stated, text.line, title or "the top of the file")
        yield from prose(section, (*above, title))


_NAMINGS: Final = frozenset({"naming", "pattern", "patterns", "convention", "conventions", "scheme"})
_NAMED: Final = frozenset({"name", "names", "directory", "directories", "dir", "dirs", "folder", "folders"})
_OF_RUNS: Final = _NAMED | {
    "run",
    "runs",
    "path",
    "paths",
    "checkpoint",
    "checkpoints",
    "output",
    "outputs",
    "artifacts",
}
_OF_DIRECTORIES: Final = frozenset(
    {"run", "runs", "directory", "directories", "folder", "folders", "structure", "layout"}
)
_is_of_other_names: Final = _with_a_word_of(
    "data dataset datasets file files filename filenames eval evals evaluation inspect log logs task tasks prompt"
    " prompts column columns branch variable table tag tags group figure plot model models base experiment module split"
)
_SAYS_NAMES: Final = re.compile(
    r"\b(?:runs?|director(?:y|ies)|folders?|outputs?|checkpoints?)\b[^.`\n]{0,60}\b(?:named|called)\b",
    re.IGNORECASE,
)
_NAMED_BY: Final = re.compile(r"\b(?:named|called) (?:by|after|from|with|using) ([^.:`\n]{3,120}+)", re.IGNORECASE)
_CODE: Final = re.compile(r"`([^`\n]{1,300}+)`")
_WORD: Final = re.compile(r"(?:[{<\[(][^{}<>\[\]()\n]{0,60}+[}>\])]|[^\s,;()`])++")
_MOST_NAMES: Final = 20
_DRAWN: Final = " \t│├└─|+-`"


def is_naming(title: str) -> bool:
    """Return whether a label or title is about the names of run directories or outputs: `Naming pattern`."""
    words = set(plain(title).split())
    is_pattern = words & _NAMINGS and ("naming" in words or words & _OF_RUNS)
    is_names = words & {"name", "names"} and words & (_NAMED - {"name", "names"})
    is_form = words & {"template", "format"} and words & _NAMED
    return bool(is_pattern or is_names or is_form) and not _is_of_other_names(title)


def _may_name(label: str) -> bool:
    """Return whether the value of a label may be a pattern or example of names: `Run directory`, `Naming pattern`."""
    words = set(plain(label).split())
    return is_naming(label) or bool(words & _NAMED and words <= _OF_DIRECTORIES)


def stated_names(root: Section) -> list[SourceText]:
    """Return the patterns and examples of names that a document gives for run directories or outputs."""
    found: list[SourceText] = []
    title = root.sections[0].title if root.sections and _is_title(root.sections[0]) else ""
    for section, above in _walk(root):
        titles = [one for one in (*above, section.title) if one != title]
        if any(is_elsewhere(one) or _is_of_others(one) or is_data(one) or is_prompt(one) for one in titles):
            continue
        found += _names_in(section, is_own=any(map(is_naming, titles)), is_of_output=any(map(is_output, titles)))
    return found[:_MOST_NAMES]


def _names_in(section: Section, *, is_own: bool, is_of_output: bool) -> Iterator[SourceText]:
    """Yield the names in a section; `is_own`: the section is about names, `is_of_output`: about outputs."""
    where = section.title or "the top of the file"
    for text in (*section.paragraphs, *(bullet.text for bullet in section.all_bullets())):
        pair = text.labelled()
        label = "" if pair is None else plain(pair.label)
        if _is_of_other_names(label):
            continue
        is_example = label in {"example", "examples"} and (is_own or is_of_output)
        if pair is not None and (_may_name(pair.label) or is_example):
            yield from _names(pair.source or pair.full, text.line, f"{where} > {pair.label}")
        elif is_own or _SAYS_NAMES.search(text.plain):
            by = _NAMED_BY.search(text.plain)
            spans = _CODE.findall(text.whole) or ([by[1]] if by else [])
            yield from (SourceText(span, text.line, where) for span in spans)
    for table in section.tables:
        for row in table.rows:
            cells = [cell.plain for cell in row.cells]
            if len(cells) in _ROW_OF_A_SETTING and _may_name(cells[0]):
                yield from _names(row.cells[1].source or cells[1], row.line, f"{where} > {cells[0]}")
    for fence in section.fences if is_own else ():
        for number, line in enumerate(fence.content.split("\n"), start=fence.line + 1):
            if name := line.partition("#")[0].strip(_DRAWN):
                yield SourceText(name, number, where)


def _names(text: str, line: int, note: str) -> Iterator[SourceText]:
    """Yield the names in the value of a label: its code, else each of its words."""
    is_whole = " " not in text or normalize(text).endswith(("run name", "run names"))  # same as Run Name
    spans = _CODE.findall(text) or ([text] if is_whole else [text, *_WORD.findall(text)])
    yield from (SourceText(span, line, note) for span in spans)


def note_unread_lines(text: str, root: Section, draft: SummaryDraft) -> None:
    """Add every line that names a hyperparameter, but was not read, to `draft.unread_lines`."""
    lines = with_line_feeds(text).split("\n")
    taken = {row.line for row in draft.rows} | draft.skipped
    for _, field in draft.configuration:  # a text of several lines may begin below its label, and below a mark
        taken |= set(range(field.line, field.line + (field.text.count("\n") + 4 if "\n" in field.text else 1)))
    begins = [*(section.line for section in root.walk()), len(lines) + 1]  # in document order
    for section in topmost(root, is_prompt):
        taken |= set(range(section.line, begins[bisect.bisect_right(begins, section.line)]))
    taken |= {problem.line for problem in draft.findings if problem.line}
    examples, texts = _fenced(root), _free_texts(root)
    taken |= {table.line for section in root.walk() for table in section.tables if _is_header(table)}
    taken |= {*_commented(lines), *(text.line for text in _lines_of(root) if not text.plain)}
    sections = list(_walk(root))
    starts = [section.line for section, _ in sections]
    for number, line in enumerate(lines, start=1):
        label, value = _parted(line) if number not in taken else ("", "")
        found = _named_by(label) if label and (value or number in texts) else None
        if found is None:
            continue
        at = bisect.bisect_right(starts, number)
        section, above = sections[at - 1] if at else (root, ())
        title = section.title.split("\n")[0]
        titles = (*above, title)
        is_of_others = any(is_elsewhere(one) or _is_of_others(one) for one in titles)
        is_code = number in examples
        other = next(filter(is_of_another_plan, titles), "")
        if other and value and not is_code and _is_setting(label) and not any(map(is_elsewhere, titles)):
            _put_aside([number], other, draft)
        if is_factors(title) or is_of_others or (is_code and any(_is_example(one) for one in titles)):
            continue
        vague = found.vague or is_code or any(is_data(one) or is_models(one) or _is_report(one) for one in titles)
        where = title or "the top of the file"
        field = replace(texts[number], note=where) if number in texts else SourceText(value, number, where, value)
        draft.unread_lines.append(found._replace(text=field, vague=vague))
    _note_aside(draft)
    _note_unread_options(sections, draft)


def note_stray_rows(section: Section, draft: SummaryDraft) -> None:
    """Report lines that look like rows but are not in a table: below a blank line, or without a line |---|."""
    lines = [text for part in section.walk() for text in part.paragraphs if text.plain.startswith("|")]
    if lines:
        look = "looks like a row, but is" if len(lines) == 1 else "look like rows, but are"
        message = f"{counted(len(lines), 'line')} {look} not in a table"
        these = "this line" if len(lines) == 1 else "these lines"
        fix = f"remove the blank line above {these}, or add a line such as `|---|---|` below the header"
        draft.add("malformed-table", message, field="runs", line=lines[0].line, fix=fix)


def _is_header(table: Table) -> bool:
    """Return whether the header of a table names its columns, as `| Split | Path |` does, but not `| Epochs | 3 |`."""
    return len(table.header) in _ROW_OF_A_SETTING and normalize(table.header[1].plain) in _COLUMNS


def _lines_of(root: Section) -> Iterator[Text]:
    for section in root.walk():
        yield from section.paragraphs
        yield from (bullet.text for bullet in section.all_bullets())


def _free_texts(root: Section) -> dict[int, SourceText]:
    """Return the texts of labels such as `Prompt` by line, with the marks that belong to them: `{input} ->`."""
    found: dict[int, SourceText] = {}
    for text in _lines_of(root):
        if (pair := text.labelled()) is not None and pair.value and is_prompt(pair.label):
            found[text.line] = SourceText.of(pair, text.line, "")
    for section in root.walk():
        for row in (row for table in section.tables for row in table.rows):
            if len(row.cells) in _ROW_OF_A_SETTING and is_prompt(row.cells[0].plain) and row.cells[1].plain:
                found[row.line] = SourceText.of_cell(row.cells[1], row.line, "")
    return found


def _note_unread_options(sections: list[tuple[Section, tuple[str, ...]]], draft: SummaryDraft) -> None:
    """Add unread options of sbatch in blocks of code to `draft.unread_lines`; in an example they are vague."""
    taken = {field.line for _, field in draft.configuration}
    for section, above in sections:
        titles = (*above, section.title)
        if any(is_elsewhere(one) or _is_of_others(one) for one in titles):
            continue
        is_example = any(_is_example(one) for one in titles)
        for label, option in sbatch_lines(section):
            named = _named_by(label) if option.line not in taken else None
            if named is not None and not named.plural and named.name:
                draft.unread_lines.append(named._replace(text=option, vague=is_example))


def sbatch_lines(section: Section) -> Iterator[tuple[str, SourceText]]:
    """Yield the options of sbatch in a section's own blocks of code, by label."""
    for fence in section.fences:
        for number, line in enumerate(fence.content.splitlines(), start=fence.line + 1):
            for label, value in notations.sbatch_options(line):
                yield label, SourceText(value, number, f"{section.title} > {label}", value)


_NO_TEXT: Final = SourceText("", 0, "")


def _named_by(label: str) -> UnreadLine | None:
    """Return the subject of a line according to its label, if it may be a setting of the runs; else None."""
    parameter = by_label(label)
    if parameter is not None:
        is_one = parameter.warn_unread or parameter.name in OF_JOBS or parameter.name == "model"
        return UnreadLine(parameter.name, _NO_TEXT, label, normalize(label) in parameter.words) if is_one else None
    several = by_plural(label)
    if several is not None:
        return UnreadLine(several.name, _NO_TEXT, label, plural=True)
    if normalize(label) in NOT_PLANNED:
        return UnreadLine("", _NO_TEXT, label)
    switch = compound.parameter_of(label)
    is_switch = switch is not None and switch.name in compound.OF_OTHER_RUNS
    return UnreadLine(switch.name, _NO_TEXT, label) if switch is not None and is_switch else None


def _parted(line: str) -> tuple[str, str]:
    """Return label and value of `label: value` or `label = value` without marks; empty strings for others."""
    line = STRUCK.sub("", line[:_LONGEST])
    cells = [cell.strip(_MARKS) for cell in line.strip().strip("|").split("|")]
    if len(cells) in _ROW_OF_A_SETTING and cells[0]:
        return cells[0].rstrip(":").rstrip(_MARKS), cells[1]
    line = line.lstrip(_MARKS)
    while before := _BEFORE_LABEL.match(line):
        line = line[before.end() :].lstrip(_MARKS)
    found = _SEPARATOR.search(line)
    if found is None:
        return "", ""
    label = line[: found.start()].strip(_MARKS)
    value = line[found.end() :].lstrip(_MARKS).rstrip(_MARKS_BEHIND).partition("</")[0]
    if label.startswith('"'):  # JSON
        return label.strip('"'), value.strip(_MARKS + '",')
    return label, value.rstrip(_MARKS_BEHIND)


def _walk(root: Section) -> Iterator[tuple[Section, tuple[str, ...]]]:
    yield from ((section, tuple(one.title for one in above)) for section, above in nested(root))


def nested(root: Section, above: tuple[Section, ...] = ()) -> Iterator[tuple[Section, tuple[Section, ...]]]:
    """Yield each section with the sections that contain it, except that of the document's title."""
    for i, section in enumerate(root.sections):
        yield section, above
        yield from nested(section, above if i == 0 and _is_title(section) else (*above, section))


def _fenced(root: Section, within: bool = False) -> set[int]:
    """Return the lines of fenced blocks outside sections of settings, which are examples."""
    lines: set[int] = set()
    for section in root.sections:
        of_settings = within or is_configuration(section.title)
        for fence in section.fences if not of_settings else ():
            lines |= set(range(fence.line, fence.line + fence.content.count("\n") + 2))
        lines |= _fenced(section, of_settings)
    return lines


def _commented(lines: list[str]) -> Iterator[int]:
    """Yield the lines of HTML comments."""
    inside = False
    for number, line in enumerate(lines, start=1):
        opens = "<!--" in line
        if inside or opens:
            yield number
        inside = (inside or opens) and "-->" not in line.rpartition("<!--")[2]

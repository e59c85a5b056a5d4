"""Special rows of the table of runs: headings of groups, summaries, cancelled runs, blank cells, names; their number.

Headings and summaries are skipped with a finding. For a row that is struck out or marked as cancelled, the user decides
whether to train it.
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Location, Scalar, counted, few, finding, lines_text, shown
from scaffold_torchtune.models import Run, Setting
from scaffold_torchtune.parse import free_text, headings, notations, values
from scaffold_torchtune.parse.drafts import OfGroup, RowDraft, SourceText, SummaryDraft, TunedRuns
from scaffold_torchtune.parse.reading import Reading
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter, by_label, normalize
from scaffold_torchtune.settings.unsupported import other_training
from scaffold_torchtune.system.markdown import Row, Section, Table, struck_text
from scaffold_torchtune.torchtune_facts import FULL, LORA, OF_LORA, find_model, method_of

PLAN_CANCELLED: Final = "plan_cancelled_runs"
"""The parameter that decides whether runs that are marked as cancelled are planned."""

_FEW: Final = 6
_LONGEST: Final = 400  # characters of a cell that are searched

_GROUP: Final = "a group heading"
_SUMMARY: Final = re.compile(
    r"(?:(?:grand |sub ?)?totals?|sums?|means?|averages?|avg|median|std|sd|stdev|standard deviation|min|max|minimum"
    r"|maximum|range|overall|summary|counts?|all(?: runs)?|σ)(?: [a-z0-9 ]*)?"
)
_RULE: Final = re.compile(r"[-:=_*~–—.… ]+")
_CONTROLS: Final = frozenset({"base", "baseline", "control", "controls", "eval", "evaluation", "zero", "untuned"})

_NOT_TO_BE_RUN: Final = (
    r"(?:cancell?ed|cancel|dropped|drop|skip(?:ped)?|abandoned|aborted|discarded|obsolete|deprecated|excluded?|removed"
    r"|retired|withdrawn|rejected|superseded|postponed|deferred|on hold|disabled|unneeded|parked|shelved|scrapped|dnr"
    r"|void|paused|killed|omit(?:ted)?|left out|leave out|not needed|not required"
    r"|no longer (?:needed|planned|required|run)|(?:do not|don['’]?t|never|won['’]?t|will not) (?:run|train|launch"
    r"|submit|start|use|scaffold|plan)|not (?:to be )?(?:run|trained|planned|launched)(?! yet))"
)
_NOT_TRAINED: Final = (
    r"(?:eval(?:uat(?:e|ed|ion))?[ -]only|(?:only|just) (?:for )?eval(?:uat(?:e|ed|ion))?"
    r"|no (?:fine-?)?(?:training|tuning)|not fine-?tuned|untrained)"
)
_IS_NOT_TRAINED: Final = re.compile(rf"(?:^|[.;,(\[–—]\s*){_NOT_TRAINED}(?=\W*$|\s*[.;,)\]])", re.IGNORECASE)
# At the start of a cell, or of a part of it, with its end or the reason after it: `Dropped: OOM`, but not `lr dropped`.
_MARK: Final = re.compile(
    rf"(?:^|[.;:,(\[–—-]\s*)\W{{0,4}}{_NOT_TO_BE_RUN}"
    r"(?=\W*$|\s*[.;,!()\[\]]|\s*:(?!\s*[0-9])|\s+[–—-]|\s+(?:by|due|because|since|as|for|until|in|after)\b)",
    re.IGNORECASE,
)
_FORBIDDEN: Final = re.compile(
    r"\b(?:do not|don['’]?t) (?:run|train|launch|submit|start|scaffold)\b"
    r"(?!\s+(?:on|with|in parallel|eval|evaluation|validation)\b)",
    re.IGNORECASE,
)
_IN_A_NAME: Final = re.compile(rf"[(\[]\s*{_NOT_TO_BE_RUN}[^()\[\]]*[)\]]", re.IGNORECASE)
_NAMED_UNTRAINED: Final = re.compile(rf"[(\[]\s*{_NOT_TRAINED}\s*[)\]]", re.IGNORECASE)
_ASKED: Final = frozenset({"run", "launch", "train", "include", "use", "go", "do", "submit", "plan", "scaffold"})
_DASHES: Final = frozenset({"-", "–", "—"})
_SYMBOLS: Final = frozenset("🚫⛔")
_REMARKS: Final = frozenset(
    {"status", "state", "note", "notes", "comment", "comments", "remark", "remarks", "description", "decision", "type"}
    | {"run type", "progress", "priority", "action", "plan", "todo"}
)
_TO_BE_RUN: Final = frozenset({"include", "included", "enabled", "enable", "active", "planned", "to run", "launch"})
_NOT_TO_BE: Final = frozenset(
    {"skip", "skipped", "cancelled", "canceled", "dropped", "disabled", "excluded", "exclude"}
)
_NO: Final = frozenset({"no", "n", "false", "0", "✗", "✘", "❌", "off"})
_YES: Final = frozenset({"yes", "y", "true", "1", "✓", "✔", "✅", "x", "on"})


def is_no_run(row: Row, labels: Sequence[str]) -> str | None:
    """Return the kind of a row that is not a run: the heading of a group, or a summary; None for a run.

    `labels` are the normalized labels of the columns.
    """
    written = [(i, cell.plain.strip()) for i, cell in enumerate(row.cells) if cell.plain.strip()]
    if not written:
        return None
    if all(_RULE.fullmatch(text) for _, text in written) and any(len(text) > 2 for _, text in written):  # noqa: PLR2004
        return "a separator"
    first = normalize(written[0][1][:_LONGEST]) or written[0][1].casefold()
    if len(written) == 1 and len(labels) > 1 and not _CONTROLS & set(first.split()):
        return _GROUP
    model = next((i for i, label in enumerate(labels) if _is(label, "model")), None)
    of_type = next((i for i, label in enumerate(labels) if label in {"type", "run type"}), None)
    cells = {i: text for i, text in written if not values.is_empty(text)}
    has_model = model in cells and model != written[0][0] and not cells[model][:1].isdigit()
    if _SUMMARY.fullmatch(first) and not has_model and of_type not in cells:
        return "a summary of runs"
    return None


def _is(label: str, name: str) -> bool:
    parameter = by_label(label)
    return parameter is not None and parameter.name == name


def add_no_run(row: Row, what: str, draft: SummaryDraft) -> None:
    """Report a row that is not a run."""
    text = next(cell.plain.strip() for cell in row.cells if cell.plain.strip())
    message, fix = (
        f"the row {shown(text)} is {what}, and is skipped",
        "no action if that is intended; otherwise fill in the values of the run, and name it differently",
    )
    draft.add("unused-row", message, field="runs", line=row.line, fix=fix, severity=Severity.INFO)


def mark_of(cells: Iterable[tuple[str, str]], *, name: str, model: str) -> str:
    """Return the mark of a row that is not to be run, or an empty string.

    Args:
        cells: label and text of each cell.
        name: the text of the run's name.
        model: the text of its model.
    """
    pairs = [(_label(label), text.strip()[:_LONGEST]) for label, text in cells if text.strip()]
    struck = [struck_text(text) is not None for _, text in pairs if not values.is_empty(text)]
    if struck_text(name) is not None or struck_text(model) is not None or (struck and all(struck)):
        return "struck out"
    types = [normalize(text) for label, text in pairs if label in {"type", "run type"}]
    is_tuned = all("tune" in text for text in types)
    if _IN_A_NAME.search(name[:_LONGEST]) or (is_tuned and _NAMED_UNTRAINED.search(name[:_LONGEST])):
        return "because of its name"
    for label, text in pairs if is_tuned else ():
        if label in _REMARKS | {"role", "purpose"} and _IS_NOT_TRAINED.search(text):
            return f"{label.capitalize()} {shown(text)}"
    return next((f"{label.capitalize()} {shown(text)}" for label, text in pairs if _says_no(label, text)), "")


def is_asked(label: str) -> bool:
    """Return whether the label of a column asks whether a row is run: `Run?`, with cells that are not names of runs."""
    return label.rstrip().endswith("?") and normalize(label) in _ASKED


def _label(label: str) -> str:
    return "to run" if is_asked(label) else normalize(label)


def _says_no(label: str, text: str) -> bool:
    if label in _REMARKS:
        return bool(_MARK.search(text) or _FORBIDDEN.search(text)) or text in _SYMBOLS
    no, yes = text.casefold() in _NO | _DASHES, text.casefold() in _YES
    return (label in _TO_BE_RUN and no) or (label in _NOT_TO_BE and yes)


def not_struck(text: SourceText) -> SourceText:
    """Return a cell without the marks that strike out its whole text."""
    inner = struck_text(text.text)
    return text if inner is None else replace(text, text=inner, full=inner, source=None)


def name_rows(draft: SummaryDraft) -> None:
    """Collect the rows of fine-tuned runs by each name of a group of them: run, model, its size, a value, a method."""
    columns = [by_label(column.text) for column in draft.columns]
    for row in draft.rows:
        if not _CONTROLS.isdisjoint(normalize(cell.text) for cell in row.cells.values()):
            continue
        draft.tuned.add(row.line)
        names = {("", normalize(row.name))}
        for i, cell in row.cells.items():
            parameter = columns[i]
            if parameter is not None:
                names.add((parameter.name, cell.text))
            if parameter is not None and parameter.name == "model":
                names |= {("", normalize(cell.text)), *(("", size[0].lower()) for size in _SIZE.finditer(cell.text))}
            elif parameter is not None and parameter.name == "recipe":
                names |= {("method", word) for word in _METHODS if word in cell.text.lower()}
        for name in names - {("", "")}:
            draft.named.setdefault(name, set()).add(row.line)


def of_some_runs(title: str, draft: SummaryDraft) -> bool:
    """Return whether the title of a group of settings limits it to some runs: `For 3B`, `Run B`, `Short runs`."""
    title = title[:_LONGEST].strip()
    if names_some_runs(title, draft):
        return True
    is_condition = _CONDITION.search(title) or any(find_model(word) for word in re.split(r"[\s,]+", title))
    return bool(is_condition) and _are_some(title, draft) is not False


def names_some_runs(text: str, draft: SummaryDraft) -> bool:
    """Return whether a text names only some of the runs: `3B`, `runs A and B`, `Rank 16`, `Short runs`."""
    named = [_named_rows(part.strip(" .:()"), draft) for part in values.BETWEEN_NAMES.split(text[:_LONGEST].strip())]
    return set().union(*named) < draft.tuned if all(named) else _are_some(text, draft) is True


def _are_some(text: str, draft: SummaryDraft) -> bool | None:
    """Return whether a text is about some runs, `Settings of short runs`, or all, `Same for all 4 runs`; else None.

    The words between the last preposition or quantifier and `runs` decide.
    """
    plain = normalize(text[:_LONGEST])
    words = plain.split()
    is_of_runs, end = words[-1:] == ["runs"], len(words) - (not _GROUPED.isdisjoint(words[-1:]))
    first = max((i + 1 for i, word in enumerate(words[:end]) if word in _BEFORE_RUNS), default=0)
    unsaid = {"the", "our", "these", "my", *(str(len(rows)) for rows in (draft.rows, draft.tuned))}
    said = [word for word in words[first:end] if str(free_text.COUNTS.get(word, word)) not in unsaid]
    limits = [word for word in said if word not in _OF_ALL_RUNS]
    methods = [("method", word) for word in _METHODS if word in said]
    is_one_of_several = len(methods) == 1 and _has_methods(draft) and draft.named.get(methods[0]) != draft.tuned
    if _EXCEPT.search(plain) or is_one_of_several:
        return True if is_of_runs else None
    if not _REFERS.isdisjoint(words[max(0, first - 2) : first]):
        return None
    found = [draft.named.get(("", name), set()) for name in (" ".join(said), " ".join(limits), *limits)]
    rows = found[0] or found[1] or (set().union(*found[2:]) if all(found[2:]) else set())
    if (rows or limits) and rows != draft.tuned:
        return True if is_of_runs and len(said) < _LONGEST_GROUP else None
    return False if first or end < len(words) else None


def _has_methods(draft: SummaryDraft) -> bool:
    return any(("method", word) in draft.named for word in _METHODS)


def sets_some_runs(label: str, draft: SummaryDraft) -> bool:
    """Return whether a label names a setting and some of the runs: `Weight decay (B)`, `3B weight decay`."""
    match, words = _LIMITED.fullmatch(label[:_LONGEST]), label[:_LONGEST].split()
    parts = [(" ".join(words[i:]), " ".join(words[:i])) for i in range(1, min(len(words), _LONGEST_GROUP))]
    parts += [(match["label"], match["aside"] or match["rest"])] if match else []
    return any(by_label(setting) is not None and names_some_runs(runs, draft) for setting, runs in parts)


def _named_rows(text: str, draft: SummaryDraft) -> set[int]:
    """Return the lines of those rows that a text names: by run, model, its size, or the value in a column."""
    text = _ABOUT_RUNS.sub("", _ONLY.sub("", text)).strip() or text
    plain, (label, _, value) = normalize(text), text.rpartition(" ")
    if plain in _METHOD_WORDS:
        return set()
    parameter, found = by_label(label), draft.named
    has_value = found.get((parameter.name, value), set()) if parameter is not None else set[int]()
    return has_value | found.get(("", text.lower()), set()) | found.get(("", plain), set())


def add_group_notes(root: Section, sections: Sequence[Section], draft: SummaryDraft) -> None:
    """Add the settings in headings and footnotes of the table of runs to the notes of the rows that they are about.

    Headings are those of sections, rows that are headings, and captions; what else they name is added to the draft.
    """
    notes: dict[int, list[SourceText]] = {}
    names = {row.name.rstrip(_FOOTNOTES) for row in draft.rows} - {""}
    ids = {id(part) for section in sections for part in section.walk()}
    for part, above in headings.nested(root):
        if id(part) not in ids or not part.tables:
            continue
        titles = [SourceText(one.title, one.line, f"the heading {shown(one.title)}") for one in (*above, part)]
        footnotes = _footnotes(part, names)
        for i, table in enumerate(part.tables):
            _say(titles + headings.captions(part, i), [row.line for row in table.rows], draft)
            of_all = [note for title in titles for note in _settings_of(title)]
            groups = _groups(table)
            for group in dict.fromkeys(groups.values()):
                _say([group], [line for line, one in groups.items() if one == group], draft)
            for row in table.rows:
                of_group = _settings_of(groups[row.line]) if row.line in groups else ()
                marks = [mark for cell in (*table.header, *row.cells) for mark in _MARKS.findall(cell.plain)]
                own = (footnotes[mark] for mark in dict.fromkeys(marks) if mark in footnotes)
                notes[row.line] = [*of_all, *of_group, *own]
    draft.rows[:] = [replace(row, notes=(*row.notes, *notes.get(row.line, ()))) for row in draft.rows]
    says_lora = any(each.value == LORA for each in draft.groups)
    draft.groups[:] = [
        each._replace(value=FULL if each.value == _ALONE else each.value)
        for each in draft.groups
        if each.value != _ALONE or says_lora
    ]


def _groups(table: Table) -> dict[int, SourceText]:
    """Return the heading of each row that is below a row with a heading, by line."""
    labels, found, group = [normalize(cell.plain) for cell in table.header], dict[int, SourceText](), None
    for row in table.rows:
        if is_no_run(row, labels) == _GROUP:
            text = next(cell.plain.strip() for cell in row.cells if cell.plain.strip())
            group = SourceText(text, row.line, f"the row {shown(text)}")
        elif group is not None:
            found[row.line] = group
    return found


def _say(titles: Iterable[SourceText], lines: Iterable[int], draft: SummaryDraft) -> None:
    """Add what titles of rows name to the draft, unless a title names several methods, models or files."""
    rows = frozenset(lines)
    for title in (each for each in titles if not _DENIED.search(each.text)):
        pieces = [piece for part in _pieces(title.text) for piece in part if not free_text.settings_alone(piece)]
        found = [pair for piece in pieces for pair in _named_in(piece) or ()]
        for name in dict.fromkeys(name for name, _ in found):
            values_of_it = {value for one, value in found if one == name}
            if len(values_of_it) == 1:
                draft.groups.append(OfGroup(name, values_of_it.pop(), title, rows))


def _pieces(title: str) -> list[list[str]]:
    """Return the parts of a title, each divided at commas and conjunctions: `LoRA (3B and 8B, 2 epochs)`."""
    parts = _PARTS_OF_A_HEADING.split(_NUMBERED_PART.sub("", title[:_LONGEST].strip()))
    return [[piece.strip(" .") for piece in _BETWEEN_PIECES.split(part) if piece.strip(" .")] for part in parts]


def _settings_of(title: SourceText) -> Iterator[SourceText]:
    """Yield the parts of a title that are only settings: `3B (batch size 2)`, but not `Batch 2`, `Rank 8 and 16`.

    Beside them, a part may name a method, a model or a file.
    """
    for part in _PARTS_OF_A_HEADING.split(title.text[:_LONGEST]):
        if free_text.settings_alone(part) and not _NUMBERED.fullmatch(part.strip()):
            yield replace(title, text=part.strip())
            continue
        (pieces,) = _pieces(part) or [[]]
        settings = [each for each in pieces if free_text.settings_alone(each) and not _NUMBERED.fullmatch(each)]
        if settings and len(settings) < len(pieces) and all(each in settings or _named_in(each) for each in pieces):
            yield replace(title, text=", ".join(settings))


def _named_in(piece: str) -> list[tuple[str, Scalar]] | None:
    """Return what a piece of a title names, by parameter, except plain settings; None if it has other words.

    An unsupported training has no parameter.
    """
    words = [word for each in piece.split() if (word := each.strip(_AROUND))]
    if len(words) > _LONGEST_PIECE:
        return None
    found: list[tuple[str, Scalar]] = [("dataset", word) for word in words if _FILE.fullmatch(word)]
    models, words = headings.models_in([word for word in words if not _FILE.fullmatch(word)])
    found += [("model", name) for name in models]
    found += [("model", word) for word in words if _SIZE.fullmatch(word)]
    rest = " ".join(word for word in words if not _SIZE.fullmatch(word) and normalize(word) not in _OF_TITLES)
    if not rest:
        return found
    if rest.lower() in _FULL_OR_WHOLE:
        return [*found, ("recipe", _ALONE)]
    try:
        method = notations.read_method("full fine-tuning" if rest.lower() in _FULL_TOO else rest)
    except notations.NotHonoured:
        other = other_training(rest)
        left = other and " ".join(rest.replace(other, " ").split()).lower()
        return [*found, ("", other)] if other and left in {"", *_METHODS} else None
    recipe = method_of(method.recipe or "")
    beside = {
        name: values.value_of(PARAMETERS[name], SourceText(text, 0, "")) for name, text in method.settings.items()
    }
    return None if recipe is None else [*found, ("recipe", recipe), *beside.items()]


def report_groups(reading: Reading, config: Mapping[str, Setting], runs: Sequence[Run]) -> None:
    """Report headings of rows that name another method, model or data set than the rows get, once for each.

    It is a warning if other rows below the heading are as it says, and these rows have their own value.
    """
    tuned = [run for run in runs if run.type == "fine-tuned"]
    of_all = TunedRuns(tuned, config, data=reading.summary.datasets)
    for group in reading.summary.groups:
        rows = [run for run in tuned if run.line in group.lines]
        others = [run for run in rows if not of_all.agrees(group, run)]
        name, line = group.name or "recipe", group.text.line
        if not others or any((each.line, each.field) == (line, name) for each in reading.findings):
            continue
        if not group.name:
            message = f"according to {group.text.note}, the runs are trained with {shown(group.value)}"
            fix = notations.remove_unsupported(shown(group.value))
            reading.add(
                "unsupported-setting", f"{message}, which is not supported", field=name, actual=group.value, line=line,
                fix=fix,
            )  # fmt: skip
            continue
        is_own = len(others) < len(rows) and all(name == "model" or name in run.parameters for run in others)
        _not_as_stated(reading, group, others, of_all, "levels-differ" if is_own else "ambiguous")


def _not_as_stated(reading: Reading, group: OfGroup, others: Sequence[Run], tuned: TunedRuns, code: str) -> None:
    name, line, value = group.name, group.text.line, group.value
    has = tuned.method(others[0]) if name == "recipe" else tuned.of(name, others[0])
    used, says = (_IN_WORDS.get(str(one), kinds.written(one)) for one in (has, value))
    where = lines_text(run.line for run in others)
    what = f"the run {shown(others[0].name)} uses" if len(others) == 1 else f"{counted(len(others), 'run')} use"
    message = f"{what} {name} {shown(used)} ({where}), but {group.text.note} says {shown(says)}"
    write = f"`{says}`" if name != "model" or find_model(says) else f"the {says} model"
    fix = f"write {write} in {reading.own_place(name)} ({where})"
    if name == "recipe" and len(others) == len(tuned.runs):
        fix = f"add {kinds.line_of(name, says, yaml=reading.form == 'yaml')}"
    fix = f"{fix} if the runs should use it; otherwise correct line {line}"
    reading.add(code, message, field=name, expected=has, actual=value, line=line, fix=fix)


def _footnotes(section: Section, names: Container[str]) -> dict[str, SourceText]:
    """Return the first footnote of each mark in a section, without the name of the run at its beginning."""
    found: dict[str, SourceText] = {}
    for text in (*section.paragraphs, *(bullet.text for bullet in section.bullets)):
        for i, line in enumerate(text.plain[:_LONGEST].split("\n")):
            if match := _FOOTNOTE.match(line):
                rest = _INSTEAD.sub("", line[match.end() :])
                ends = [end.start() for end in _END_OF_NAME.finditer(rest)]
                own = next((rest[:end] for end in reversed(ends) if rest[:end] in names), "")
                rest = rest.removeprefix(own).lstrip(" :")
                found.setdefault(match["mark"], SourceText(rest, text.line + i, f"the footnote {match['mark']}"))
    return found


_FOOTNOTES: Final = "¹²³⁴⁵⁶⁷⁸⁹†‡§*"
_PARTS_OF_A_HEADING: Final = re.compile(r"[()\[\];:]| [–—-] ")
_NUMBERED: Final = re.compile(r"(?:batch|epoch) [0-9]{1,4}", re.IGNORECASE)
_NUMBERED_PART: Final = re.compile(
    r"^(?:[0-9]{1,3}[.)] |(?:table|phase|part|group|stage|block|set|arm|study|step|experiment)"
    r" (?:[0-9]{1,3}|[a-z])(?!\w|\.\w))",
    re.IGNORECASE,
)
_BETWEEN_PIECES: Final = re.compile(r", (?:and )?| (?:and|&|\+|/|\|) ")
_AROUND: Final = " .,:*_`'\"“”"
_FILE: Final = re.compile(r"[\w./~+-]{1,200}\.(?:jsonl?|parquet)", re.ASCII)
_LONGEST_PIECE: Final = 12  # words
_ALONE: Final = "alone"
_DENIED: Final = re.compile(r"\bnot\b", re.IGNORECASE)
_FULL_TOO: Final = frozenset({"fft", "no lora", "without lora", "no adapters", "without adapters"})
_FULL_OR_WHOLE: Final = frozenset({"full", "full training"})
_IN_WORDS: Final = {LORA: "LoRA", FULL: "full fine-tuning"}
_OF_TITLES: Final = frozenset({
    "run", "runs", "experiment", "experiments", "sweep", "sweeps", "grid", "group", "block", "part", "phase",
    "stage", "set", "series", "study", "table", "model", "models", "condition", "conditions", "arm", "baseline",
    "baselines", "reference", "main", "additional", "more", "planned", "all", "the", "our", "these", "following",
    "a", "an", "only", "on", "with", "using", "for", "of", "in", "by", "to", "use", "uses", "trained", "data",
    "dataset", "file", "rank", "ranks", "learning", "rate", "rates", "lr", "seed", "seeds", "ablation", "size",
    "sizes", "batch"
})  # fmt: skip
"""Words of a title that say nothing of the values of its rows."""
_FOOTNOTE: Final = re.compile(r"(?P<mark>[¹²³⁴⁵⁶⁷⁸⁹†‡§]|\*{1,3}|\[\^[\w]{1,9}\]):?\s{0,9}(?=\w)")
# In a cell; not the asterisk of `2*8` or `2 * 8`.
_MARKS: Final = re.compile(r"[¹²³⁴⁵⁶⁷⁸⁹†‡§]|(?<![ *])\*++(?!\w)|(?<!\*)\*++(?! ?\w)|\[\^\w{1,9}\]")
_END_OF_NAME: Final = re.compile(r":? ")
_INSTEAD: Final = re.compile(r" (?:instead of|rather than|not) .{0,99}$", re.IGNORECASE)
_CONDITION: Final = re.compile(r"\b(?:only|except|unless)\b|^(?:for|if|when|in) ", re.IGNORECASE)
_ONLY: Final = re.compile(r"^only (?:for |in )?| only$", re.IGNORECASE)
_LIMITED: Final = re.compile(
    r"(?P<label>[^()\[\]]{1,60}?) ?(?:[(\[](?:for |of |in )?(?P<aside>[^()\[\]]{1,80})[)\]]"
    r"| (?:for|of|in|on) (?P<rest>.{1,80}))",
    re.IGNORECASE,
)
_ABOUT_RUNS: Final = re.compile(
    r"^(?:(?:the|all|runs?|models?|settings of|condition|group) ){1,3}"
    r"|(?: (?:runs?|models?|settings|condition|group)){1,3}$",
    re.IGNORECASE,
)
_LONGEST_GROUP: Final = 5  # words
_SIZE: Final = re.compile(r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,2})?B(?!\w)", re.IGNORECASE)
_METHOD_WORDS: Final = frozenset({"lora", "full", "method", "training", "data", "optimizer"})
_METHODS: Final = frozenset({"lora", "full"})
_OF_ALL_RUNS: Final = _METHODS | frozenset(
    {"fine", "tuning", "tuned", "finetuning", "finetuned", "training", "trained"}
    | {"planned", "and", "common", "shared", "total", "number", "num", "no", "n"}
)
_REFERS: Final = frozenset({"as", "from", "like", "than", "after", "following"})
_BEFORE_RUNS: Final = frozenset(
    {"all", "both", "every", "each", "any", "of", "for", "in", "to", "across", "over", "on", "between", "among", "with"}
    | _REFERS
)
_GROUPED: Final = frozenset({"runs", "run", "models", "model", "conditions", "condition", "experiments", "experiment"})
_EXCEPT: Final = re.compile(
    r"\b(?:only|except|excluding|unless|but|some|most|few|not (?:for|in|of|all|every)"
    r"|(?<!not )(?<! t )(?:vary|varies|varied|varying|differ|differs|different|differing))\b"
)


def cancelled_rows(reading: Reading, marked: Sequence[RowDraft]) -> set[int]:
    """Return the lines of the marked rows if they are to be skipped; ask the user if that is not decided yet."""
    if not marked:
        return set()
    known = PARAMETERS[PLAN_CANCELLED]
    texts = [text for label, text in reading.summary.configuration if by_label(label) is known]
    value = values.value_of(known, texts[0]) if texts else None
    if value is None:
        _ask(reading, marked)
    return {row.line for row in marked} if value is False else set()


def _ask(reading: Reading, rows: Sequence[RowDraft]) -> None:
    draft = reading.summary
    listed = few([f"{shown(row.name)} (line {row.line}, {row.mark})" for row in rows], _FEW)
    what = "a run that is" if len(rows) == 1 else f"{len(rows)} runs that are"
    message = f"it is unclear whether to plan {what} in the table, but marked as not to be run: {listed}"
    where, line = reading.advised(PLAN_CANCELLED, draft)
    some = "this run" if len(rows) == 1 else "these runs"
    gone = some if reading.form == "yaml" else lines_text((row.line for row in rows), len(rows))
    fix = f"remove {gone}; or write this, with `no` to skip {some} or `yes` to plan {some}, {where}: "
    line = line.replace("VALUE", "no")
    fix += line if "\n" in line else f"`{line}`"
    table = draft.sections.get("runs") if reading.form == "yaml" else draft.columns[0].line
    reading.add("ambiguous", message, field=PLAN_CANCELLED, expected="yes or no", line=table, fix=fix)


def report_stated_runs(reading: Reading, rows: int, tuned: int, cancelled: int) -> None:
    """Report numbers of runs in the overview that differ from the table, or from each other."""
    draft, stated = reading.summary, reading.summary.stated_runs
    if stated is None:
        return
    count, line, others, total = stated
    fix, expected, actual = "", count, tuned
    if count not in {tuned, tuned + cancelled}:
        message = f"the overview states {counted(count, 'fine-tuned run')}, but the table has {tuned}"
        fix = f"replace `{count}` with `{tuned}`"
        fix += f" and the total `{total}` with `{tuned + others}`" if total not in {None, tuned + others} else ""
    elif total is not None and total not in {rows, rows - cancelled, count + others}:
        message = f"the overview states a total of {counted(total, 'run')}, but the table has {rows}"
        fix, expected, actual = f"replace `{total}` with `{rows}`", total, rows
    if fix:
        fix = f"{fix} in {draft.file}:{line}, or correct the table"
        reading.add("runs-differ", message, field="runs", expected=expected, actual=actual, line=line, fix=fix)


def blank_cells(
    reading: Reading, runs: Sequence[Run], config: Mapping[str, Setting], environment: Mapping[str, Setting]
) -> Iterator[Finding]:
    """Yield a finding for each blank cell with a value in a row above, which other programs show as a merged cell.

    Markdown does not merge cells: the run gets the value that all runs share, or the default. The finding is a warning
    if that differs from the value above.
    """
    tuned = {run.line: run for run in runs if run.type == "fine-tuned"}
    found: dict[tuple[str, str, str, str, str], list[tuple[Run, Setting]]] = {}
    for i, column in enumerate(reading.summary.columns):
        parameter, above = by_label(column.text), None
        if parameter is None or not parameter.column or parameter.name in {"model", "dataset"}:
            continue
        for row in reading.summary.rows:
            run = tuned.get(row.line)
            own = run.parameters.get(parameter.name) if run else None
            if own is not None:
                above = own
            elif run and above and i in row.blank and not _has_none(run, parameter.name, config):
                got, why = _gets(parameter.name, run, reading, config, environment)
                likely = _in_name(run, parameter) or kinds.written(above.value)
                is_twin = _has_twin(run, parameter, likely, tuned.values())
                key = (parameter.name, kinds.written(above.value), "" if is_twin else likely, got, why)
                found.setdefault(key, []).append((run, above))
    for (name, of_above, likely, got, why), some in found.items():
        runs, line = [run for run, _ in some], some[0][1].source.line
        listed = few([f"{shown(run.name)} (line {run.line})" for run in runs], _FEW)
        same = got == of_above
        use, rows = ("this row uses", "this row") if len(runs) == 1 else ("these rows use", "these rows")
        message = f"{name} is blank in {listed}: {use} {got}{why}, "
        message += f"the same value as on line {line}" if same else f"but the row above on line {line} has {of_above}"
        named = "if the cells were merged" if likely == of_above else f"as in the name{'s' * (len(runs) > 1)}"
        fix = f"write `{likely}` in {rows}, {named}; no action if {got} is intended"
        if same or not likely:
            fix = f"no action if {got} is intended; otherwise write the intended value in {rows}"
        severity, at = Severity.INFO if same else None, Location(reading.summary.file, runs[0].line)
        yield finding(
            "blank-cell", message, field=name, expected=of_above, actual=got, severity=severity, fix=fix, at=at
        )


def _in_name(run: Run, parameter: Parameter) -> str:
    """Return the value of a parameter that the name of a run gives: 5e-5 in `rank8_lr5e-5`; empty without one."""
    labels = tuple(f"_{each}" for each in (parameter.name, parameter.abbreviation) if each)
    found = _VALUE_IN_NAME.finditer(run.name[:_LONGEST])
    stated = next((match for match in found if f"_{match['label']}".endswith(labels)), None)
    with suppress(NotTyped):
        return kinds.written(parameter.read(stated["value"])) if stated else ""
    return ""


_VALUE_IN_NAME: Final = re.compile(
    r"(?<![A-Za-z0-9])(?P<label>[A-Za-z](?:[A-Za-z]|_(?=[A-Za-z])){0,40})[=_-]?"
    r"(?P<value>[0-9]{1,12}(?:\.[0-9]{1,12})?(?:e-?[0-9]{1,3})?)(?![A-Za-z0-9.])"
)


def _has_twin(run: Run, parameter: Parameter, text: str, runs: Iterable[Run]) -> bool:
    """Return whether a run with a value would equal a different run in all columns."""

    def values_of(of: Run, own: str | None = None) -> dict[str, str]:
        texts = {name: kinds.written(setting.value) for name, setting in of.parameters.items()}
        return texts if own is None else {**texts, parameter.name: own}

    wanted = values_of(run, text)
    return any(values_of(other) == wanted for other in runs if other is not run)


def _has_none(run: Run, name: str, config: Mapping[str, Setting]) -> bool:
    """Return whether a run does not have a setting, because all of its weights are trained."""
    recipe = run.parameters.get("recipe") or config.get("recipe")
    return name in OF_LORA and recipe is not None and method_of(recipe.text) == FULL


def _gets(
    name: str, run: Run, reading: Reading, config: Mapping[str, Setting], environment: Mapping[str, Setting]
) -> tuple[str, str]:
    """Return the value that a run without its own value gets, and its source as it follows the value."""
    setting = config.get(name) or environment.get(name) or reading.template.settings.get(name)
    if setting is not None:
        return kinds.written(setting.value), f", from {setting.source}"
    if name == "lora_alpha":
        rank = run.parameters.get("lora_rank") or config.get("lora_rank") or reading.template.settings.get("lora_rank")
        ratio = config.get("lora_alpha_ratio")
        factor = float(str(ratio.value)) if ratio else 2
        alpha = factor * (rank.integer if rank else int(str(PARAMETERS["lora_rank"].default)))
        return f"{alpha:g}", f" ({factor:g} x lora_rank)"
    default = PARAMETERS[name].default
    if default in {None, ""}:
        return "no value", " (there is no default)"
    return kinds.written(default), " (the default)"


def full_in_name(name: str) -> str | None:
    """Return whether the name of a run says full fine-tuning: `full` if it does, `alone` for the word `full` alone.

    `full` before another word may be about something else: `full_data`, `full_context`.
    """
    if "lora" in name.lower():  # `lora_on_full_data`, `lora_vs_full_ft`
        return None
    if _FULL_NAME.search(name):
        return FULL
    return "alone" if _FULL_ALONE.search(name) else None


_FULL_NAME: Final = re.compile(
    r"(?<![A-Za-z0-9])full[ _.-]?(?:(?:param(?:eter)?s?|weights?|model)[ _.-]?)?"
    r"(?:fine[ _.-]?tun(?:e|ed|ing)|s?ft)(?![A-Za-z])",
    re.IGNORECASE,
)
_FULL_ALONE: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:full|fft)(?![A-Za-z0-9])(?![ _.-]{1,3}(?!lr|bs|seed|ep)[A-Za-z]{1,99}(?![A-Za-z0-9]))",
    re.IGNORECASE,
)

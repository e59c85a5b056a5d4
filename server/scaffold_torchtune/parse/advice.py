"""Where a document would say a value: the line to write, and in which place, so that it is read as the value is."""

import dataclasses
import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from scaffold_torchtune.findings import Finding, Scalar
from scaffold_torchtune.models import Experiment, SummaryFormat
from scaffold_torchtune.parse import local_labels, markdown_lines, yaml_lines
from scaffold_torchtune.parse.drafts import Draft, LocalDraft, SourceText, SummaryDraft
from scaffold_torchtune.parse.markdown_lines import Written
from scaffold_torchtune.parse.values import configured
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.parameters import DIRECTORIES, OF_LOCAL, PARAMETERS, Parameter
from scaffold_torchtune.system import yamlio
from scaffold_torchtune.system.text import with_line_feeds
from scaffold_torchtune.system.yamlio import KeyPath
from scaffold_torchtune.torchtune_facts.model_registry import model_by_spelling

NAME: Final = "experiment name"
"""What the field of the experiment's name is called where there is none."""

MODEL_PATH: Final = "path of model "
"""What the field of a model's directory is called, before the model's name."""

# What stands for the value in a line that is still to be filled in, and what stands before it.
_HOLDERS: Final = {
    "experiment_name": "EXPERIMENT_NAME", "epochs": "NUMBER", "batch_size": "NUMBER", "dataset": "/path/to/data.json",
    "output_dir_base": "/path/to/outputs", "conda_env": "NAME", "my_wandb_project": "NAME",
}  # fmt: skip
_LABELS: Final = {
    "epochs": "- **Epochs:**", "batch_size": "- **Batch size:**", "dataset": "- **Path**:",
    "conda_env": "- **Default conda environment**:", "my_wandb_project": "- **Default project**:",
    "output_dir_base": "- **Output base directory**:", "plan_cancelled_runs": "- **Plan cancelled runs:**",
}  # fmt: skip
_LOCAL_SECTIONS: Final = {
    "conda_env": "SLURM Defaults", "my_wandb_project": "Weights & Biases", "wandb_entity": "Weights & Biases",
} | dict.fromkeys(("output_dir_base", "models_dir", *DIRECTORIES), "Common Paths")  # fmt: skip
_MOST_PAIRS: Final = 20_000  # of equal lines: what difflib looks through again and again


def parameter_named(name: str) -> Parameter:
    """Return the parameter of a field."""
    if name.startswith(MODEL_PATH):
        return Parameter(name, "path")
    return PARAMETERS["experiment_name"] if name == NAME else local_labels.parameter(name)


@dataclass(frozen=True)
class Place:
    """Where the value of a field goes: `draft` is the document, `other` another one that speaks of the field too.

    `texts` are what stands there in its place, `lines` the lines of the problems with it; `gone` and `gone_lines` are
    those of the other document, which are taken out.
    """

    field: str
    draft: Draft
    texts: tuple[SourceText, ...] = ()
    lines: frozenset[int] = frozenset()
    other: Draft | None = None
    gone: tuple[SourceText, ...] = ()
    gone_lines: frozenset[int] = frozenset()
    problems: tuple[Finding, ...] = dataclasses.field(default=(), compare=False)


class Advice(NamedTuple):
    """A line to write, or several; in which document, and where there."""

    file: str
    add: str
    where: str


class _Hunk(NamedTuple):
    """Lines of a document, from 1 and without the last, and what stands in their place."""

    first: int
    end: int
    new: tuple[str, ...]


def holder(place_field: str) -> Written:
    """Return what stands for the value of a field that is still to come."""
    known = parameter_named(place_field)
    text = _HOLDERS.get(known.name, "VALUE")
    if place_field.startswith(MODEL_PATH):
        text = f"/path/to/{place_field.removeprefix(MODEL_PATH)}"
    return Written(known.kind, text, holder=True)


def advise(places: Sequence[tuple[Place, Written]], form: SummaryFormat) -> list[Advice]:
    """Return the advice for each place. What would have to stand in one line of YAML, each advice has whole."""
    found = [_hunks(text_of(place.draft), _with(text_of(place.draft), place, value, form)) for place, value in places]
    for i, (place, _) in enumerate(places):
        if form == "yaml" and isinstance(place.draft, SummaryDraft) and (main := _main(found[i])):
            same = [j for j, each in enumerate(found) if _clash(main, _main(each), places[j][0].draft is place.draft)]
            text = text_of(place.draft)
            for j in same if len(same) > 1 else ():
                text = _with(text, *places[j], form)
            if len(same) > 1:
                found[i] = _hunks(text_of(place.draft), text)
    return [_advice(place, hunks) for (place, _), hunks in zip(places, found, strict=True)]


def text_of(draft: Draft) -> str:
    """Return the text of a document with the ends of lines that its reader counts."""
    return with_line_feeds(draft.text)


def advise_columns(experiment: Experiment, text: str, columns: Mapping[str, Mapping[int, Scalar]]) -> Advice | None:
    """Return the lines of the runs that give each a value of its own for what all of them shared.

    Args:
        experiment: as it was read.
        text: its summary.
        columns: by setting, the values by the lines of the runs.

    Returns:
        None where the document cannot say it so: its runs are not rows of one table, or a value is no cell.
    """
    text, yaml = with_line_feeds(text), experiment.form == "yaml"
    cells = {name: {at: _as_cell(name, value, yaml=yaml) for at, value in of.items()} for name, of in columns.items()}
    if not cells or any(cell is None for of in cells.values() for cell in of.values()):
        return None
    written = {name: {at: str(cell) for at, cell in of.items()} for name, of in cells.items()}
    new = _runs_in_yaml(text, experiment, written) if yaml else markdown_lines.with_columns(text, written)
    main = _main(_hunks(text, new)) if new else None
    if main is None:
        return None
    where = f"in the place of {_lines(range(main.first, main.end))}" if main.end > main.first else ""
    return Advice(experiment.summary_file, "\n".join(main.new), where or f"below line {main.first - 1}")


def _as_cell(name: str, value: Scalar, *, yaml: bool) -> str | None:
    """Return a value as a row has it; None where none can."""
    if value is None:
        return "null" if yaml else "-"
    text = kinds.shortest_number(value) if isinstance(value, float) else str(value)
    if isinstance(value, bool):
        text = str(value).lower() if yaml else "yes" if value else "no"
    written = Written(PARAMETERS[name].kind, text)
    if yaml:
        return written.yaml
    return None if written.needs_block else written.markdown


def _runs_in_yaml(text: str, experiment: Experiment, cells: Mapping[str, Mapping[int, str]]) -> str | None:
    """Return the summary in the YAML form with more parameters of its runs."""
    items = yamlio.read(text).data
    runs = items.get("runs") if isinstance(items, dict) else None
    names = [run.get("name") for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []
    for name, of in cells.items():
        for run in experiment.runs:
            if run.line in of:
                if names.count(run.name) != 1:
                    return None
                path: KeyPath = ("runs", names.index(run.name), "parameters", name)
                text = yaml_lines.put(text, [path], path, of[run.line])
    return text


def _clash(one: _Hunk, other: _Hunk | None, is_same_document: bool) -> bool:
    """Return whether two changes of a YAML document cannot both be made: of one line, or by the same key."""
    if other is None or not is_same_document or (one.first, one.end) != (other.first, other.end):
        return False
    keys = {hunk.new[0].partition(":")[0] for hunk in (one, other) if hunk.new}
    return one.end > one.first or len(keys) == 1


def _with(text: str, place: Place, value: Written, form: SummaryFormat) -> str:
    """Return the document with the value in it."""
    if form == "yaml" and isinstance(place.draft, SummaryDraft):
        return _in_yaml(text, place, value)
    if isinstance(place.draft, SummaryDraft) and parameter_named(place.field).name == "experiment_name":
        if place.texts:
            return markdown_lines.retitled(text, place.texts[0], value)
        return markdown_lines.at_top(text, [f"# {value.text}"])
    if place.texts and not value.needs_block:
        return markdown_lines.replaced(text, place.texts, place.lines, value)
    if place.texts or place.lines:
        # the lines above a new one may be those that are taken out, so that it is written first
        mark = "\ufdd1"
        marked = "\n".join(
            mark + row if line in _lines_of(place) else row for line, row in enumerate(text.split("\n"), start=1)
        )
        inserted = _inserted(marked, place, value)
        return "\n".join(row for row in inserted.split("\n") if not row.startswith(mark))
    return _inserted(text, place, value)


def _lines_of(place: Place) -> set[int]:
    spans = (range(text.line, max(text.line, text.last) + 1) for text in place.texts)
    return {line for span in spans for line in span} | place.lines


def _inserted(text: str, place: Place, value: Written) -> str:
    """Return the Markdown document with a new line in the section that a field belongs in."""
    name, draft = place.field, place.draft
    new = value.lines(_label(name, draft))
    if isinstance(draft, LocalDraft):
        section = _LOCAL_SECTIONS.get(name) or ("SLURM Defaults" if name in OF_LOCAL else "")
        if draft.block:
            return markdown_lines.in_block(text, draft.block, f"{name}: {value.local_yaml}")
        if line := draft.sections.get(section):
            return markdown_lines.below_heading(text, line, new)
        if local_labels.setting(_label(name, draft).strip("-*: "), local_labels.TOP) == name:
            return markdown_lines.at_top(text, new)
        return markdown_lines.at_end(text, section or "Defaults", new)
    sections = ("Configuration > Training", "Configuration")
    if name == "dataset":
        sections = ("Resources > Dataset", "Dataset")
    elif name.startswith(MODEL_PATH) or name == "models_dir":
        sections = ("Resources > Models", "Models")
    line = next((draft.sections[each] for each in sections if each in draft.sections), None)
    if line is None:
        return markdown_lines.at_end(text, sections[-1], new)
    return markdown_lines.below_heading(text, line, new)


def _label(name: str, draft: Draft) -> str:
    """Return what stands before the value of a field in a new line."""
    if name.startswith(MODEL_PATH):
        return f"- **{name.removeprefix(MODEL_PATH)}**:"
    if name in OF_LOCAL and isinstance(draft, LocalDraft) and name in {"gpus", "mem", "cpus_per_task"}:
        return f"- **Default {name}**:"  # without `Default` it may be what a node has
    return _LABELS.get(name, f"- **{name}**:")


def _in_yaml(text: str, place: Place, value: Written) -> str:
    """Return the summary in the YAML form with the value in it."""
    name, known = place.field, parameter_named(place.field)
    data = yamlio.read(text).data
    if name.startswith(MODEL_PATH):
        return _model_in_yaml(text, name.removeprefix(MODEL_PATH), data, value)
    fixed: dict[str, KeyPath] = {
        "experiment_name": ("experiment", "name"), "dataset": ("data", "training", "path"),
        "my_wandb_project": ("output", "wandb_project"),
    }  # fmt: skip
    if path := fixed.get(known.name):
        return yaml_lines.put(text, [path], path, value.yaml)
    parts: list[KeyPath] = [("controls",), ("data", "training")]
    existing = [(*part, key) for part in parts for key in _mapping(data, part) if configured(str(key)) is known]
    return yaml_lines.put(text, existing, ("controls", known.name), value.yaml)


def _model_in_yaml(text: str, model: str, data: object, value: Written) -> str:
    items = _mapping(data, ("models",)).get("base")
    meant = model_by_spelling(model)
    for i, item in enumerate(items if isinstance(items, list) else []):
        name = item.get("name") if isinstance(item, dict) else None
        if name == model or (meant is not None and isinstance(name, str) and model_by_spelling(name) is meant):
            path: KeyPath = ("models", "base", i, "path")
            return yaml_lines.put(text, [path], path, value.yaml)
    item_text = f"{{name: {yamlio.scalar(model)}, path: {value.yaml}}}"
    return yaml_lines.put(text, [], ("models", "base", ""), item_text)


def _mapping(data: object, path: KeyPath) -> dict[str, object]:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _main(hunks: Sequence[_Hunk]) -> _Hunk | None:
    return next((hunk for hunk in hunks if hunk.new), None)


def _hunks(old: str, new: str) -> list[_Hunk]:
    """Return where two texts differ, line by line."""
    before, after = old.split("\n"), new.split("\n")
    same = next((i for i, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), None)
    start = min(len(before), len(after)) if same is None else same
    shorter = min(len(before), len(after)) - start
    tail = next((i for i in range(shorter) if before[-1 - i] != after[-1 - i]), shorter)
    left, right = before[start : len(before) - tail], after[start : len(after) - tail]
    known = Counter(left)
    if sum(known[line] for line in right) > _MOST_PAIRS:
        return [_Hunk(start + 1, start + 1 + len(left), tuple(right))]
    codes = difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    found = [code for code in codes if code[0] != "equal"]
    filled = [(a, b, c, d) for _, a, b, c, d in found if d > c]
    # what is written is one piece, with what stands between its parts
    whole = [(filled[0][0], filled[-1][1], filled[0][2], filled[-1][3])] if filled else []
    gone = [(a, b, c, d) for _, a, b, c, d in found if d == c and not (whole and whole[0][0] <= a and b <= whole[0][1])]
    return [_Hunk(start + 1 + a, start + 1 + b, tuple(right[c:d])) for a, b, c, d in sorted([*whole, *gone])]


def _advice(place: Place, hunks: Sequence[_Hunk]) -> Advice:
    draft, main = place.draft, _main(hunks)
    if main is None:  # one of the lines says it already
        gone = {line for hunk in hunks for line in range(hunk.first, hunk.end)}
        first = min((text.line for text in place.texts if text.line not in gone), default=1)
        main = _Hunk(first, first + 1, (text_of(draft).split("\n")[first - 1],))
    count = len(text_of(draft).rstrip("\n").split("\n")) if draft.text.strip() else 0
    if main.end > main.first:
        where = f"in the place of {_lines(range(main.first, main.end))}"
    elif main.first == 1:
        where = "at the top"
    else:
        is_apart = not "".join(main.new).startswith(("-", " "))  # a section, or a key at the top of YAML
        where = "at the end" if main.first > count and is_apart else f"below line {min(main.first - 1, count)}"
    out = [line for hunk in hunks if hunk is not main for line in range(hunk.first, hunk.end)]
    where += f"; take out {_lines(out)}" if out else ""
    if place.other is not None and (place.gone or place.gone_lines):
        taken = _lines_of(Place(place.field, place.other, place.gone, place.gone_lines))
        where += f"; take {_lines(sorted(taken))} out of {place.other.file}"
    return Advice(draft.file, "\n".join(main.new).lstrip("\n"), where)


def _lines(lines: Sequence[int]) -> str:
    if len(lines) == 1:
        return f"line {lines[0]}"
    if lines[-1] - lines[0] == len(lines) - 1:
        return f"lines {lines[0]} to {lines[-1]}"
    return f"lines {', '.join(map(str, lines[:-1]))} and {lines[-1]}"

"""Reader of experiment_summary.yaml, as a `SummaryDraft`.

Values are read as written and typed later by their parameter, like the cells of a Markdown table, regardless of YAML's
own types for `1e-5` or `1:30:00`. Text that YAML reads as another type (`no`, `012`) is a problem.
"""

from collections.abc import Iterator

from scaffold_torchtune.findings import escape, shown
from scaffold_torchtune.parse import compound, notations, values, yaml_form, yaml_source
from scaffold_torchtune.parse.drafts import RowDraft, SourceText, SummaryDraft, UnreadLine
from scaffold_torchtune.parse.marked_rows import mark_of, not_struck
from scaffold_torchtune.parse.notations import remove_unsupported
from scaffold_torchtune.parse.yaml_source import YamlSource, field_at
from scaffold_torchtune.settings.parameters import (
    PARAMETERS,
    WORDS_OF_TRAINING,
    Parameter,
    by_label,
    by_plural,
    normalize,
)
from scaffold_torchtune.settings.unsupported import NOT_PLANNED
from scaffold_torchtune.system.serialization import KeyPath, YamlError, read_yaml

_OWN = {"prompt": "prompt", "system_prompt": "system_prompt", "dataset_path": "dataset"}
_TRAINING: KeyPath = ("data", "training")


def read_yaml_summary(text: str, file: str) -> SummaryDraft:
    """Read a summary in the YAML form. Problems of its form are reported in the draft."""
    draft = SummaryDraft(file, text=text)
    try:
        document = read_yaml(text)
    except YamlError as error:
        message = f"the file cannot be read: {escape(error.message)}"
        draft.add("invalid-value", message, line=error.line, fix=error.fix)
        draft.readable = False
        return draft
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        fix = "write a mapping with the sections 'experiment' and 'runs'"
        draft.add("invalid-value", "the file is not a mapping of sections", line=1, fix=fix)
        draft.readable = False
        return draft
    if yaml_source.note_foreign(data, draft):
        return draft
    source = YamlSource(document, data, draft)
    yaml_form.check_shape(source)
    draft.sections = source.sections()
    _general(source)
    _data(source)
    before = len(draft.findings)
    _runs(source)
    draft.unasked = draft.findings[before:]
    yaml_form.check_values(source)
    _stand_in(source)
    return draft


def _general(source: YamlSource) -> None:
    """Read everything except the runs and the data."""
    draft = source.draft
    draft.name = field_at(source, ("experiment", "name"), "experiment_name")
    if isinstance(source.at(("experiment", "dir")), str):
        draft.directories = _found(source, ("experiment", "dir"))
    draft.wandb_project = field_at(source, ("output", "wandb_project"), "my_wandb_project")
    for key in ("wandb_mode", "wandb_entity", "wandb_group", "wandb_tags"):
        _shared(source, ("output", key))
    for i, _ in enumerate(source.items(("models", "base"))):
        name, path = (field_at(source, ("models", "base", i, key)) for key in ("name", "path"))
        if name and path:
            draft.models.append((name.text, path))
    for key in source.mapping(("variables",)):
        _levels(source, key)
    for key in source.mapping(("controls",)):
        _shared(source, ("controls", key))
    draft.prose += _notes(source, (), ("experiment",), ("controls",), _TRAINING, ("output",))
    draft.prose += _sentences(source, (), ("experiment",))


def _levels(source: YamlSource, key: str) -> None:
    """Read the values that the section variables lists for a parameter."""
    path: KeyPath = ("variables", key)
    texts = [field_at(source, (*path, i)) for i, _ in enumerate(source.items(path))]
    if not texts or not all(texts):
        return
    levels = SourceText(
        ", ".join(text.text for text in texts if text), source.line(path), f"variables.{escape(str(key))}"
    )
    label, levels = values.with_unit(str(key), levels)
    if parameter := by_label(label):
        source.draft.levels.append((parameter.name, levels))
    elif several := by_plural(str(key)):
        source.draft.unread_lines.append(UnreadLine(several.name, levels, str(key), plural=True))
    elif normalize(str(key)) in NOT_PLANNED:  # a property of every run has no levels
        source.draft.configuration.append((str(key), levels))


def _shared(source: YamlSource, path: KeyPath) -> None:
    """Read a setting that all runs share."""
    if text := field_at(source, path, str(path[-1])):
        source.draft.configuration.append(values.with_unit(str(path[-1]), text))


def _found(source: YamlSource, path: KeyPath) -> list[SourceText]:
    found = field_at(source, path)
    return [found] if found else []


def _data(source: YamlSource) -> None:
    """Read the data set: path and splits; label and format, which must agree with the path; and settings."""
    draft = source.draft
    draft.datasets = _found(source, (*_TRAINING, "path"))
    splits = source.mapping((*_TRAINING, "splits"))
    draft.splits = {k: v for k, v in splits.items() if isinstance(v, int) and not isinstance(v, bool)}
    for key in yaml_form.TrainingDataForm.model_fields:
        if key in PARAMETERS and PARAMETERS[key].column:
            _shared(source, (*_TRAINING, key))
    for key, claim in (("dataset_label", "label"), ("format", "format")):
        if found := field_at(source, (*_TRAINING, key)):
            draft.data_claims.append((claim, found))


def _runs(source: YamlSource) -> None:
    """Fill the draft's columns and rows; report problems."""
    columns: dict[str, int] = {}
    lines: dict[str, int] = {}
    unknown: set[str] = set()
    for i, run in enumerate(source.items(("runs",))):
        if isinstance(run, dict):
            cells: dict[int, SourceText] = {}
            for key, path in _keys(source, i, unknown).items():
                column = columns.setdefault(key, len(columns))
                lines.setdefault(key, source.line(path))
                if (found := _cell(source, key, path)) is not None:
                    cells[column] = found
            mark, name = _mark(source, i)
            cells = {column: not_struck(cell) if mark else cell for column, cell in cells.items()}
            notes = tuple(_notes(source, ("runs", i), ("runs", i, "parameters"), ("runs", i, "compute")))
            source.draft.rows.append(RowDraft(cells, source.line(("runs", i)), mark=mark, name=name, notes=notes))
    if columns:
        for key in ("type", "model"):  # missing in every run if none has it
            columns.setdefault(key, len(columns))
    whole = source.line(("runs",))
    source.draft.columns = [SourceText(key, lines.get(key, whole), "runs") for key in columns]


def _notes(source: YamlSource, *sections: KeyPath) -> Iterator[SourceText]:
    """Yield the remarks of sections: texts under keys for people."""
    for path in sections:
        for key, value in source.mapping(path).items():
            texts = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
            if texts and yaml_form.is_remark(str(key)):
                yield SourceText(". ".join(texts), source.line((*path, key)), source.name((*path, key)))


_A_SENTENCE = 4  # words


def _sentences(source: YamlSource, *sections: KeyPath) -> Iterator[SourceText]:
    """Yield texts of several words under unknown keys: `design: We train ...`."""
    for path in sections:
        for key, value in source.mapping(path).items():
            words = normalize(str(key))
            is_known = by_label(words) is not None or words in NOT_PLANNED or yaml_form.is_remark(str(key))
            is_of_others = any(word in words for word in ("eval", "generat", "question", "judge", "related", "future"))
            if isinstance(value, str) and len(value.split()) >= _A_SENTENCE and not (is_known or is_of_others):
                yield SourceText(value, source.line((*path, key)), source.name((*path, key)))


def _mark(source: YamlSource, i: int) -> tuple[str, str]:
    """Return the mark of a run that is not to be run, and the text of its name."""
    given = {**source.mapping(("runs", i, "parameters")), **source.mapping(("runs", i))}
    texts = {str(key): str(value) for key, value in given.items() if isinstance(value, str | bool)}
    name, model = texts.get("name", ""), texts.get("model", "")
    return mark_of(texts.items(), name=name, model=model), name


def _keys(source: YamlSource, i: int, unknown: set[str]) -> dict[str, KeyPath]:
    """Return the path of each value of a run, by the name of its column; report a value that is given twice."""
    run: KeyPath = ("runs", i)
    found: list[tuple[str, KeyPath]] = [(key, (*run, key)) for key in ("name", "type", "model")]
    for key in source.mapping((*run, "parameters")):
        path = (*run, "parameters", key)
        is_text = yaml_form.is_for_people(key) or yaml_form.is_remark(key)
        if not is_text and (name := _column(source, path, unknown)):
            found.append((name, path))
    compute = source.mapping((*run, "compute"))
    found += [(name, (*run, "compute", key)) for key in compute if (name := yaml_form.resource_of(str(key)))]
    found += [(name, (*run, key)) for key, name in _OWN.items()]
    keys: dict[str, KeyPath] = {}
    for name, path in found:
        if not source.has(path):
            continue
        first = keys.get(name)
        if first is None or (source.at(first) is None and source.at(path) is not None):
            keys[name] = path
        # Two names of a parameter are a problem, as two columns are; the same value in two places is not.
        elif source.at(path) is not None and (path[:-1] == first[:-1] or source.at(path) != source.at(first)):
            second = f"{source.name(path)} (line {source.line(path)})"
            message = f"{name} is set twice in one run: {source.name(first)} (line {source.line(first)}) and {second}"
            source.draft.add("ambiguous", message, field=name, line=source.line(path), fix="keep one of the two values")
    return keys


def _column(source: YamlSource, path: KeyPath, unknown: set[str]) -> str | None:
    """Return the name of a key of a run's `parameters` as a column; report an unknown one in the first run."""
    key = values.split_unit(str(path[-1]))[0]
    found = by_label(key)
    if compound.has_words_of_its_own(key) or normalize(key) in NOT_PLANNED or compound.parameter_of(key) != found:
        return key
    if found is not None and found.column:
        return found.name
    if found is None and notations.speaks_of_method(str(source.at(path))):
        return "method"
    if asked := compound.asked_of(key, str(source.at(path))):
        message = f"{source.name(path)} requests {shown(asked)}, which is not supported"
        fix = remove_unsupported()
        source.draft.add("unsupported-setting", message, field=key, line=source.line(path), fix=fix)
        return None
    similar = None if by_plural(key) else yaml_form.nearest_parameter(key)
    if key not in unknown:
        unknown.add(key)
        _unknown(source, path, found, similar)
    return similar.name if similar else None


def _unknown(source: YamlSource, path: KeyPath, found: Parameter | None, similar: Parameter | None) -> None:
    key, name = escape(str(path[-1])), source.name(path)
    code, message = "unused-field", f"'{name}' is not a parameter of a run"
    fix = "no action, unless it should change the runs; in that case, use a label from workflows/labels.md"
    if similar is not None:
        code, fix = "misspelt-field", f"write `{similar.name}`"
        message = f"'{name}' is not a parameter; did you mean {similar.name!r}?"
    elif by_plural(str(path[-1])) is not None and source.at(path) != 1:
        code, fix = (
            "misspelt-field",
            "write a separate item for each run, and add a key that distinguishes these runs, such as 'seed'",
        )
        message = f"'{name}' describes several runs in one entry"
    elif isinstance(source.at(path), dict | list):
        code, fix = "invalid-value", "write each setting directly in parameters, with a single value"
        message = f"'{name}' is {source.described(path)}, not a parameter of a run"
        source.unread.add("controls")  # it may contain settings that all runs need
    elif found is None and WORDS_OF_TRAINING & set(normalize(key).split()):
        code, fix = "misspelt-field", "use one of the settings that workflows/labels.md lists, or remove the key"
        message = f"'{name}' is about the run, but is not a supported parameter"
    elif found is not None:
        code = "misspelt-field" if found.name in compound.NOT_BY_RUN else code
        fix = "remove it; claude.local.md can set it, but only for all runs together"
    source.draft.add(code, message, field=key or name, line=source.line(path), fix=fix)


def _cell(source: YamlSource, key: str, path: KeyPath) -> SourceText | None:
    """Return a run's text for a parameter. A null for free text means an empty text."""
    if source.at(path) is not None:
        written = str(path[-1])
        found = field_at(source, path, written if values.split_unit(written)[1] else key)  # 64 is a number, 64G is text
        return values.with_unit(written, found)[1] if found else None
    name, line = source.name(path), source.line(path)
    if key == "system_prompt":
        return SourceText("", line, name, exact=True)
    is_trained = str(source.mapping(path[:2]).get("type")) not in {"control", "eval-only"}
    prompts: tuple[KeyPath, ...] = (("controls", "prompt"), (*_TRAINING, "prompt"))
    shared = next((path for path in prompts if source.at(path) is not None), None)
    if key == "prompt" and is_trained and shared:
        message = (
            f"{name} is null, which removes the shared prompt ({source.name(shared)}, line {source.line(shared)}), but"
            " a run needs a prompt"
        )
        fix = (
            'write a prompt for this run (`"{input}"` if the prompt is just the input), or remove the line to use the'
            " shared prompt"
        )
        source.draft.add("ambiguous", message, field=key, line=line, fix=fix)
    return None


def _stand_in(source: YamlSource) -> None:
    """Add stand-ins for the values of a section with unknown content, so that they are not reported as missing.

    The document is refused because of that section, so the stand-ins are never planned.
    """
    draft, unread = source.draft, source.unread
    if "controls" in unread:
        given = {key for key, _ in draft.configuration}
        draft.configuration += [(k, SourceText("1", 1, "controls")) for k in ("epochs", "batch_size") if k not in given]
    if "output" in unread:
        draft.wandb_project = SourceText("unread", 1, "output")
    if "models" in unread:
        listed = {name for name, _ in draft.models}
        named = [source.at(("runs", i, "model")) for i in range(len(source.items(("runs",))))]
        lacking = [name for name in named if isinstance(name, str) and name not in listed]
        draft.models += [(name, SourceText("/unread", 1, "models")) for name in dict.fromkeys(lacking)]

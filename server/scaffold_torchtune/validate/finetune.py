"""The proof that every planned value is in finetune.yaml, and that nothing unplanned is."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.system.yamlio import KeyPath
from scaffold_torchtune.torchtune_facts.facts import load
from scaffold_torchtune.validate import arrivals, components
from scaffold_torchtune.validate.arrivals import Comparison, Expectation, is_full, output_dir
from scaffold_torchtune.validate.report import Report, at, below, compare, dotted, normal_path, quoted
from scaffold_torchtune.validate.run_files import ResolvedConfig, interpolated

_OTHER: Final[dict[str, tuple[Any, ...]]] = {
    "dataset.conversation_column": ("messages",),  # with the style: OpenAI's form of a conversation
    "dataset.conversation_style": ("openai",),
    "metric_logger.mode": ("offline",),  # compute nodes often have no network, where `online` waits for it
    "tokenizer.prompt_template.assistant": (["", ""],),
}
"""What else a job may hold."""

_OF_THE_PLAN: Final = frozenset((part, "_component_") for part in ("model", "tokenizer", "checkpointer", "dataset"))
"""Components that follow from the plan; where it does not say which, there is a finding of that."""

_ANOTHER: Final = "If another value is meant, give it in the summary; else nothing: the setup script chose it."
_OUTPUTS: Final[frozenset[KeyPath]] = frozenset({("metric_logger", "log_dir"), ("profiler", "output_dir")})
"""Directories that torchtune writes to; in its stock configs they lie below `output_dir`."""

_UNREAD: Final = frozenset(
    {
        "base_recipe", "batch_size_val", "config_file", "custom_recipe", "dataset_val", "epochs_to_save", "hf_token",
        "input_formatting", "modules", "run_val_every_n_steps", "save_last_epoch_only", "stash_adapter_weights", "venv",
    }
)  # fmt: skip
"""Top-level keys that every known generation of cruijff_kit's script writes, from its options or its template's line,
and that no recipe reads."""


def check_finetune(report: Report, config: ResolvedConfig, recipe: str | None) -> None:
    """Check finetune.yaml against the plan; findings go to `report`, whose document it is.

    Args:
        report: the report of finetune.yaml.
        config: the file as read and resolved.
        recipe: the recipe of torchtune that finetune.slurm must start; None where it is no stock recipe.
    """
    raw = config.document.data
    if not isinstance(raw, dict):
        report.add("unreadable-file", "finetune.yaml holds no mapping of keys to values", line=1)
        return
    data, problems = config.data, config.problems
    for path, reason in problems.items():
        report.add("value-mismatch", f"{dotted(path)}: {reason}", actual=at(raw, path), path=path)
    _models(report)
    expected = arrivals.expectations(report.run)
    for expectation in expected:
        path = expectation.path
        if path not in problems:
            _expect(report, expectation, data)
        else:
            _looked(report, expectation, at(data, path), arrived=False)
    _unread_text(report)
    components.check_components(report, data)
    _keys(report, data, recipe, interpolated(raw))
    check_unplanned(report, data, [expectation.path for expectation in expected])


def _models(report: Report) -> None:
    name, kind = report.planned("torchtune_model_name"), report.planned("dataset_type")
    severity = Severity.ERROR if report.bundled else Severity.WARNING
    if name is not None and load().model(str(name)) is None:
        report.add(
            "unknown-model",
            f"what finetune.yaml must hold for the model {quoted(name)} is not known, so it is not proven",
            field="torchtune_model_name",
            actual=name,
            path=("model",),
            severity=severity,
            fix="Use a model that is in the registry, or compare the model, tokenizer and checkpointer nodes yourself.",
        )
    if arrivals.shape_of(report.run) is None:
        report.add(
            "invalid-value",
            f"what finetune.yaml must hold for the data set type {quoted(kind)} is not known, so it is not proven",
            field="dataset_type",
            expected=", ".join(arrivals.SHAPES),
            actual=kind,
            path=("dataset",),
            severity=severity,
            fix="Use one of the data set types named.",
        )
    prompt = report.planned("prompt")
    if prompt and arrivals.PLAIN_PROMPT not in str(prompt):
        report.add(
            "invalid-value",
            f"the planned prompt {quoted(prompt)} has no place for a sample's text, so no run would see its input",
            field="prompt",
            expected=arrivals.PLAIN_PROMPT,
            actual=prompt,
            path=("tokenizer", "prompt_template"),
            fix=f"Put {arrivals.PLAIN_PROMPT} into the prompt, where the sample's text belongs.",
        )


def _expect(report: Report, expected: Expectation, data: dict[str, Any]) -> None:
    actual = at(data, expected.path)
    may_be_absent = expected.absent_is is not None and (expected.optional or not report.bundled)
    is_default = actual is None and may_be_absent and compare(expected.value, expected.absent_is) is None
    code = None if is_default else _verdict(expected, actual)
    setting, path = expected.setting, expected.path
    _looked(report, expected, actual, arrived=code is None)
    if code is None:
        return
    if expected.kind is Comparison.PRESENT:
        report.add(code, f"{dotted(path)} is absent or empty", field=setting, path=path)
        return
    note, source_of = expected.note, expected.source_of
    report.differs(setting, dotted(path), expected.value, actual, code=code, path=path, note=note, source_of=source_of)


def _looked(report: Report, expected: Expectation, actual: Any, *, arrived: bool) -> None:
    """Note that a value was looked for, of each setting that it is made of."""
    where = dotted(expected.path)
    for name in (expected.setting, *expected.parts):
        report.looked(name, where, expected.value, actual, arrived=arrived, path=expected.path)


def _verdict(expected: Expectation, actual: Any) -> str | None:
    """The code of the finding that what stands there deserves."""
    value = expected.value
    if expected.kind is Comparison.ABSENT:
        return None if actual is None or actual == "" else "unplanned-value"
    if expected.kind is Comparison.PRESENT:
        return "missing-value" if actual is None or actual in ({}, [], "") else None
    if actual is None:
        return None if value is None else "missing-value"
    if expected.kind is Comparison.NUMBER and type(value) is int:
        return compare(float(value), actual)
    if expected.kind is Comparison.PATH and isinstance(actual, str):
        return None if normal_path(actual) == normal_path(str(value)) else "value-mismatch"
    if expected.kind is Comparison.ENDS and isinstance(actual, str):
        return None if actual.endswith(str(value)) else "value-mismatch"
    if expected.kind is Comparison.EPOCHS and isinstance(actual, list):
        wanted = [part.strip() for part in str(value).split(",")] if value != "none" else []
        numbers = all(type(part) is int for part in actual)
        return None if numbers and wanted == [str(part) for part in actual] else "value-mismatch"
    if expected.kind is Comparison.PARTS:
        parts = str(value).split(",")
        return ("value-mismatch" if actual != parts else None) if isinstance(actual, list) else "wrong-type"
    return compare(value, actual)


def _unread_text(report: Report) -> None:
    """A planned `train_on_input: false` for a data set that always trains on the whole text."""
    shape, setting = arrivals.shape_of(report.run), report.run.settings.get("train_on_input")
    if shape and not shape.train_on_input and setting and setting.value is False and setting.source.kind != "default":
        message = f"{shape.component} always trains on the whole text, so train_on_input: false has no effect"
        fix = "Take another data set type, or leave train_on_input out."
        report.add(
            "unread-setting", message, field="train_on_input", expected=False, path=("dataset", "_component_"), fix=fix
        )


def _keys(report: Report, data: dict[str, Any], recipe: str | None, named: frozenset[str]) -> None:
    """Top-level keys: those that the recipe needs, and those that nothing reads."""
    facts = load().recipes.get(recipe or "")
    if facts is None:
        return
    for key in sorted(facts.required - data.keys() - {path[0] for path in report.paths}):
        message = f"{key} is absent, and the recipe {recipe} reads it without a default"
        report.add("missing-value", message, field=key, path=(key,))
    planned = {str(path[0]) for name, path in arrivals.DIRECT.items() if name in report.run.settings}
    planned |= {"run_val_every_n_steps", "dataset_val"} if report.planned("run_val_every_n_steps") else set()
    unread = [key for key in data if key not in facts.reads and key not in named]
    for key in [key for key in unread if key in planned]:
        if key != "dataset_val" and not report.lenient(key):
            version = load().torchtune
            message = f"{key} is written as planned, but the recipe {recipe} of torchtune {version} does not read it"
            fix = "Leave the setting out, or use a custom recipe that reads it."
            report.add("unread-setting", message, field=key, path=(key,), fix=fix)
    unplanned = [key for key in unread if key not in planned and (report.bundled or data[key] not in (None, "", {}))]
    _unplanned_keys(report, unplanned, recipe)


def _unplanned_keys(report: Report, keys: list[str], recipe: str | None) -> None:
    own = [key for key in keys if key in _UNREAD] if report.run.generation and not report.bundled else []
    if own:
        shown = ", ".join(quoted(key) for key in own)
        message = f"the recipe {recipe} does not read these top-level keys, which the script always adds: {shown}"
        report.add("unplanned-value", message, severity=Severity.INFO, fix="Nothing to do: they have no effect.")
    reported = {path[0] for path in report.paths}
    for key in [key for key in keys if key not in reported and key not in own]:
        message = f"the recipe {recipe} does not read the top-level key {quoted(key)}, and nobody planned it"
        report.unplanned(message, Severity.WARNING, field=key, path=(key,))


def check_unplanned(report: Report, data: dict[str, Any], planned: Iterable[KeyPath]) -> None:
    """Report every value in finetune.yaml, resolved, that neither the plan nor a stock config of torchtune has.

    The stock configs are those of torchtune's own recipe for the run's method and GPUs (whatever else a recipe of
    somebody's own reads, it reads these values too); where they are silent, the defaults of components' arguments
    count. Arguments that components do not take, and keys that the recipe does not read, have checks of their own.

    Args:
        report: takes the findings.
        data: the file's resolved data.
        planned: the paths that the plan has values for; what stands there or below is checked already.
    """
    facts = load().recipes[_usual(report)]
    defaults = dict(_defaults(data))
    checked = {*planned, *report.paths}
    above = {path[:end] for path in checked for end in range(len(path))}
    for path, value in _values(data):
        name = dotted(path)
        if path[0] not in facts.reads or path in _OF_THE_PLAN or path in above or _is_below(path, checked):
            continue
        if isinstance(value, str) and value.startswith("/"):
            # logs and profiles go where the run's other outputs go, or they mix with those of other runs
            folder = output_dir(report.run)
            if path in _OUTPUTS and folder is not None and not below(value, folder):
                _unplanned(report, path, value, "is not in the run's output directory", folder)
            continue
        known = (*facts.stock.get(name, ()), *_OTHER.get(name, ())) or defaults.get(path, ())
        if value in (None, "") or any(compare(each, value) is None for each in known):
            continue
        own = f"; torchtune's own is {' or '.join(quoted(each) for each in known)}" if known else ""
        expected, fix = known[0] if len(known) == 1 else None, None if report.bundled else _ANOTHER
        _unplanned(report, path, value, f"nobody planned{own}", expected, fix)


def _unplanned(report: Report, path: KeyPath, value: Any, why: str, expected: Any, fix: str | None = None) -> None:
    otherwise = Severity.ERROR if dotted(path) in arrivals.OF_THE_TRAINING else Severity.WARNING
    message = f"{dotted(path)} is {quoted(value)}, which {why}"
    report.unplanned(message, otherwise, expected=expected, actual=value, path=path, fix=fix)


def _usual(report: Report) -> str:
    """Torchtune's own recipe for the run's method and number of GPUs."""
    gpus = report.planned("gpus")
    form = "distributed" if isinstance(gpus, int) and gpus > 1 else "single_device"
    return f"{'full' if is_full(report.run) else 'lora'}_finetune_{form}"


def _defaults(data: dict[str, Any]) -> Iterator[tuple[KeyPath, tuple[Any]]]:
    """The default of each argument of the components that are named, by its path."""
    for name, node in data.items():
        component = load().components.get(str(node.get("_component_"))) if isinstance(node, dict) else None
        if component is not None:
            yield from (((name, argument), (value,)) for argument, value in component.defaults.items())


def _is_below(path: KeyPath, checked: set[KeyPath]) -> bool:
    """Whether a path, or one that leads to it, is checked."""
    return any(path[:end] in checked for end in range(len(path) + 1))


def _values(node: dict[str, Any], above: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every value that is no mapping, with its path; a list is one value."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _values(value, (*above, key))
        else:
            yield (*above, key), value

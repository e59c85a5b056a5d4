"""The proof that every planned value stands in finetune.yaml, where torchtune reads it."""

from typing import Any

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.shared.yamlio import Path
from scaffold_torchtune.torchtune_facts import load
from scaffold_torchtune.validate import arrivals, components, dataset, habits, stock
from scaffold_torchtune.validate.arrivals import Expectation, Kind
from scaffold_torchtune.validate.files import ResolvedConfig
from scaffold_torchtune.validate.report import Report
from scaffold_torchtune.validate.resolve import interpolated
from scaffold_torchtune.validate.values import compare, dotted, normal_path, quoted

SETTINGS = frozenset(arrivals.DIRECT) | arrivals.GROUPED | dataset.SETTINGS
"""Settings whose arrival in finetune.yaml is known."""


def check(report: Report, config: ResolvedConfig, recipe: str | None) -> None:
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
        place = dotted(path)
        report.add("value-mismatch", f"{place}: {reason}", field=place, actual=at(raw, path), path=path)
    _models(report)
    expected = [*arrivals.direct(report.run), *arrivals.model(report.run), *arrivals.other(report.run)]
    expected += [*arrivals.output(report.run), *dataset.expectations(report.run)]
    for expectation in expected:
        if expectation.path not in problems:
            _expect(report, expectation, data)
    _unread_text(report)
    components.check(report, data)
    _keys(report, data, recipe, interpolated(raw))
    stock.check(report, data, [expectation.path for expectation in expected])


def at(data: Any, path: Path) -> Any:
    """What stands at a path; None where it is absent."""
    for key in path:
        if isinstance(data, dict):
            data = data.get(key)
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            data = data[key]
        else:
            return None
    return data


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
    if dataset.shape_of(report.run) is None:
        report.add(
            "invalid-value",
            f"what finetune.yaml must hold for the data set type {quoted(kind)} is not known, so it is not proven",
            field="dataset_type",
            expected=", ".join(dataset.SHAPES),
            actual=kind,
            path=("dataset",),
            severity=severity,
            fix="Use one of the data set types named.",
        )
    prompt = report.planned("prompt")
    if prompt and dataset.PLAIN_PROMPT not in str(prompt):
        report.add(
            "invalid-value",
            f"the planned prompt {quoted(prompt)} has no place for a sample's text, so no run would see its input",
            field="prompt",
            expected=dataset.PLAIN_PROMPT,
            actual=prompt,
            path=("tokenizer", "prompt_template"),
            fix=f"Put {dataset.PLAIN_PROMPT} into the prompt, where the sample's text belongs.",
        )


def _verdict(expected: Expectation, actual: Any) -> str | None:
    """The code of the finding that what stands there deserves."""
    value = expected.value
    if expected.kind is Kind.ABSENT:
        return None if actual is None or actual == "" else "unplanned-value"
    if expected.kind is Kind.PRESENT:
        return "missing-value" if actual is None or actual in ({}, [], "") else None
    if actual is None:
        return None if value is None else "missing-value"
    if expected.kind is Kind.NUMBER and type(value) is int:
        return compare(float(value), actual)
    if expected.kind is Kind.PATH and isinstance(actual, str):
        return None if normal_path(actual) == normal_path(str(value)) else "value-mismatch"
    if expected.kind is Kind.ENDS and isinstance(actual, str):
        return None if actual.endswith(str(value)) else "value-mismatch"
    if expected.kind is Kind.EPOCHS and isinstance(actual, list):
        wanted = [part.strip() for part in str(value).split(",")] if value != "none" else []
        numbers = all(type(part) is int for part in actual)
        return None if numbers and wanted == [str(part) for part in actual] else "value-mismatch"
    if expected.kind is Kind.PARTS:
        parts = str(value).split(",")
        return ("value-mismatch" if actual != parts else None) if isinstance(actual, list) else "wrong-type"
    return compare(value, actual)


def _expect(report: Report, expected: Expectation, data: dict[str, Any]) -> None:
    actual = at(data, expected.path)
    may_be_absent = expected.absent_is is not None and (expected.optional or not report.bundled)
    if actual is None and may_be_absent and compare(expected.value, expected.absent_is) is None:
        return
    code = _verdict(expected, actual)
    if code is None:
        return
    if expected.kind is Kind.PRESENT:
        report.add(code, f"{dotted(expected.path)} is absent or empty", field=expected.setting, path=expected.path)
        return
    report.differs(
        code,
        expected.setting,
        place=dotted(expected.path),
        expected=expected.value,
        actual=actual,
        path=expected.path,
        note=expected.note,
        source_of=expected.source_of,
    )


def _unread_text(report: Report) -> None:
    """A planned `train_on_input: false` for a data set that always trains on the whole text."""
    shape, setting = dataset.shape_of(report.run), report.run.settings.get("train_on_input")
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
    spoken = {path[0] for path in report.paths}
    for key in sorted(facts.required - data.keys() - spoken):
        message = f"{key} is absent, and the recipe {recipe} reads it without a default"
        report.add("missing-value", message, field=key, path=(key,))
    planned = {path[0] for name, (path, _) in arrivals.DIRECT.items() if name in report.run.settings}
    planned |= {"run_val_every_n_steps", "dataset_val"} if report.planned("run_val_every_n_steps") else set()
    unread = [key for key in data if key not in facts.reads and key not in named]
    for key in [key for key in unread if key in planned]:
        if key != "dataset_val" and not report.lenient(key):
            _unread(report, key, recipe)
    unplanned = [key for key in unread if key not in planned and (report.bundled or data[key] not in (None, "", {}))]
    _unplanned_keys(report, unplanned, recipe)


def _unread(report: Report, key: str, recipe: str | None) -> None:
    message = f"{key} is written as planned, but the recipe {recipe} of torchtune {load().torchtune} does not read it"
    fix = "Leave the setting out, or use a custom recipe that reads it."
    report.add("unread-setting", message, field=key, path=(key,), fix=fix)


def _unplanned_keys(report: Report, keys: list[str], recipe: str | None) -> None:
    own = [key for key in keys if habits.is_unread_habit(report, key)]
    if own:
        shown = ", ".join(quoted(key) for key in own)
        message = f"the recipe {recipe} does not read these top-level keys, which the script always adds: {shown}"
        report.add("unplanned-value", message, severity=Severity.INFO, fix="Nothing to do: they have no effect.")
    spoken = {path[0] for path in report.paths}
    for key in [key for key in keys if key not in spoken and key not in own]:
        message = f"the recipe {recipe} does not read the top-level key {quoted(key)}, and nobody planned it"
        report.unplanned(message, Severity.WARNING, field=key, path=(key,))

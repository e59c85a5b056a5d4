"""Documents with the advised lines of questions and answers in their places, and valid answers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from scaffold_torchtune.findings import Question, Refused, Scalar
from scaffold_torchtune.models import Answer, Experiment
from scaffold_torchtune.parse import parse_experiment
from scaffold_torchtune.settings.kinds import ValueKind
from scaffold_torchtune.settings.parameters import DIRECTORIES, PARAMETERS
from support.corpus_cases import is_here

Documents = dict[str, str]
"""Both documents, by name: the summary first."""

VALUES: dict[ValueKind, list[Scalar]] = {
    "int": [3, "7"], "float": [0.25, "5e-1"], "bool": [True, "no"], "name": ["ada_1", "x-2.b"],
    "text": ["Say it", 'He said "a" or "b", *now*: \\d | `x` <b> &amp; #1\nand {input} '], "label": ["named+1"],
    "modules": ["anaconda3/2025.6", "gcc/13,cuda/12"], "path": ["/srv/a b/c", "rel/x_y (1)"],
    "pattern_free_path": ["/srv/other.json", "rel/x_y.parquet"], "folder": ["raw"], "extension": [".json"],
    "recipe": ["dev/x"], "time": ["1-12:00:00", "36 hours"], "memory": ["64G", "32 GB"], "constraint": ["a100|h100"],
    "gpu_type": ["a100"], "mail": ["ada@example.org"], "events": ["END,FAIL"], "reservations": ["course"],
    "wandb_mode": ["online"], "projections": ["k_proj,q_proj"], "files": ["a.bin"],
    "nodes": ["gpu[03-05],n7"], "tags": ["lora,4 letters"], "comment": ["second # try; of (two)"],
}  # fmt: skip
OWN: dict[str, list[Scalar]] = {
    "recipe": ["full", "lora_finetune_single_device"],
    "lr_scheduler": ["get_cosine_schedule_with_warmup", "cosine"],
    "dataset_type": ["instruct_dataset", "chat_dataset"],
    "prompt": ["{input}", 'Word "{input}":\n'],
    "epochs_to_save": ["all"],
}


def values_of(field: str) -> list[Scalar]:
    """Return valid answers to a question."""
    if field.startswith("path of model"):
        return VALUES["path"]
    known = DIRECTORIES.get(field) or PARAMETERS[field.replace("experiment name", "experiment_name")]
    return OWN.get(field, VALUES[known.kind])


def parsed(documents: Documents, answers: Mapping[str, Scalar] | None = None) -> Experiment:
    (summary, text), (local, local_text) = documents.items()
    return parse_experiment((summary, text), (local, local_text), is_here, None, answers)


def asked(documents: Documents, answers: Mapping[str, Scalar] | None = None) -> tuple[Question, ...]:
    """Return the questions about documents; empty if they are an experiment."""
    try:
        parsed(documents, answers)
    except Refused as refused:
        return refused.ask
    return ()


def said(experiment: Experiment) -> dict[str, Any]:
    """Return the values of an experiment, without their places."""
    return {
        "name": experiment.name,
        "runs": [
            (run.name, run.type, run.model, {k: s.value for k, s in run.parameters.items()}) for run in experiment.runs
        ],
        "dataset": experiment.dataset and experiment.dataset.path.value,
        "models": {model.name: model.path.value for model in experiment.models},
        "config": {name: setting.value for name, setting in experiment.config.items()},
        "environment": {name: setting.value for name, setting in experiment.environment.items()},
    }


_NUMBERS = r"lines? (?P<{0}>[0-9][0-9, and to]*)"
_WHERE = re.compile(
    rf"(?:at the (?P<at>top of the file|end)|below line (?P<below>[0-9]+)|instead of {_NUMBERS.format('place')})"
    rf"(?:; remove {_NUMBERS.format('out')})?(?:; remove {_NUMBERS.format('gone')} from (?P<file>\S+))?"
)


def _lines(text: str | None) -> set[int]:
    if not text:
        return set()
    if " to " in text:
        first, last = map(int, text.split(" to "))
        return set(range(first, last + 1))
    return set(map(int, re.findall("[0-9]+", text)))


def written(documents: Documents, advice: Iterable[Answer]) -> Documents:
    """Return documents with the advised lines added; places refer to lines of the original documents."""
    rows = {name: [[row] for row in _rows(text)] for name, text in documents.items()}
    ends: dict[str, list[str]] = {name: [] for name in documents}
    tops: dict[str, list[str]] = {name: [] for name in documents}
    for file, add, where in dict.fromkeys((one.file, one.add, one.where) for one in advice):
        found = _WHERE.fullmatch(where)
        assert found, where
        assert add
        place, out = _lines(found["place"]), _lines(found["out"])
        if found["at"]:
            (tops if found["at"] != "end" else ends)[file].append(add)
        elif found["below"]:
            rows[file][int(found["below"]) - 1].append(add)
        for line in place | out:
            rows[file][line - 1] = rows[file][line - 1][1:]
        if place:
            rows[file][min(place) - 1].insert(0, add)
        for line in _lines(found["gone"]):
            rows[found["file"]][line - 1] = []
    return {
        name: "\n".join([*tops[name], *(row for each in rows[name] for row in each), *ends[name], ""])
        for name in documents
    }


def _rows(text: str) -> list[str]:
    rows = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while rows and not rows[-1].strip():
        rows.pop()
    return rows


def check(documents: Documents, choice: int = 0) -> list[str]:
    """Answer all questions about documents, and the next ones; return the fields of the questions.

    Each question ends with a valid answer, and the advised lines, written where they belong, give the same plan.
    """
    answers: dict[str, Scalar] = {}
    while questions := asked(documents, answers):
        for question in questions:
            assert question.field not in answers, f"{question.field} is asked again: {question.question}"
            assert question.add, question
            assert _WHERE.fullmatch(question.where), question.where
            values = list(question.options) or values_of(question.field)
            answers[question.field] = values[choice % len(values)]
    if not answers:
        return []
    try:
        experiment = parsed(documents, answers)
    except Refused:
        return list(answers)
    assert {answer.field for answer in experiment.answers} == set(answers)
    edited = written(documents, experiment.answers)
    try:
        again = parsed(edited)
    except Refused as refused:
        raise AssertionError([p.sentence() for p in refused.problems] + list(edited.values())) from refused
    assert said(again) == said(experiment), edited
    return list(answers)

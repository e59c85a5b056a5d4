"""What torchtune is asked, and which of its answers count. Nothing is run here: tests/contract asks the real one."""

import json

import pytest

from scaffold_torchtune.external_checks.ask_torchtune import (
    Heard,
    Questions,
    hear,
    missing,
    questions,
    request,
    unanswered,
)
from scaffold_torchtune.finding_codes import Severity
from support.torchtune_configs import config

MARK = "a mark: "
PARTS = ["model", "tokenizer", "checkpointer", "dataset", "optimizer", "lr_scheduler", "loss", "metric_logger"]


def heard(*said: object, asked: Questions | None = None) -> Heard:
    """What is heard of lines: an object is said with the mark, a text is printed as it is."""
    lines = [line if isinstance(line, str) else MARK + json.dumps(line) for line in said]
    return hear("\n".join(lines), MARK, asked or questions([config()]))


def everything(count: int = len(PARTS)) -> list[dict[str, int]]:
    return [*({"node": number} for number in range(count)), {"done": count}]


def test_every_component_is_asked_about_with_nothing_left_to_resolve() -> None:
    asked = questions([config()])
    assert [part for part, _ in asked.nodes] == PARTS
    assert dict(asked.nodes)["checkpointer"]["checkpoint_dir"] == "/scratch/me/models//Llama-3.2-1B-Instruct/"
    assert "${" not in json.dumps(asked.nodes)


def test_what_configs_have_alike_is_asked_about_once() -> None:
    first, second = config(), config("lora_rank: 8", "lora_rank: 16", directory="rank16")
    asked = questions([first, second])
    assert [part for part, _ in asked.nodes] == [*PARTS, "model"]
    assert [config.directory for config in asked.configs[1]] == ["rank8", "rank16"]
    assert [[config.directory for config in asked.configs[n]] for n in (0, 8)] == [["rank8"], ["rank16"]]


def test_the_order_of_keys_makes_no_other_question() -> None:
    other = config("  lora_rank: 8\n  lora_alpha: 16\n", "  lora_alpha: 16\n  lora_rank: 8\n")
    assert len(questions([config(), other]).nodes) == len(PARTS)


def test_the_same_component_for_another_part_is_another_question() -> None:
    asked = questions([config("loss:\n", "other_loss:\n  _component_: x.Y\nloss:\n", "torchtune.modules.loss", "x")])
    assert {"other_loss", "loss"} <= {part for part, _ in asked.nodes}
    same = "  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss\n"
    assert len(questions([config("loss:\n", f"other_loss:\n{same}loss:\n")]).nodes) == len(PARTS) + 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss", "  component: x"),
        ("loss:\n  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss", "loss: torchtune._component_"),
        ("loss:\n", "loss:\n  more: ${no_such_key}\n"),
    ],
)
def test_what_names_no_component_or_cannot_be_resolved_is_not_asked_about(old: str, new: str) -> None:
    assert [part for part, _ in questions([config(old, new)]).nodes] == [part for part in PARTS if part != "loss"]


def test_the_program_is_told_the_mark_and_each_node_with_its_part() -> None:
    asked = questions([config()])
    given = json.loads(request(asked, MARK))
    assert given["mark"] == MARK
    assert [(one["part"], one["node"]) for one in given["nodes"]] == asked.nodes


def test_only_lines_with_the_mark_are_answers() -> None:
    found = heard({"torchtune": "0.6.1", "torch": "2.13.0"}, "  a warning  ", '{"missing": "all"}', *everything())
    assert (found.torchtune, found.torch, found.missing, found.done) == ("0.6.1", "2.13.0", "", True)
    assert found.noise == '{"missing": "all"}'
    assert sorted(found.nodes) == list(range(len(PARTS)))
    nothing = heard("a warning", "   ")
    assert (nothing.noise, nothing.done) == ("a warning", False)


def test_a_line_that_says_something_else_leaves_the_answer_as_it_was() -> None:
    lines: list[object] = [{"node": "first"}, {"node": -1}, {"node": 1, "more": 1}, [], "{"]
    for line in lines:
        found = heard({"torchtune": "0.6.1", "torch": "2"}, {"node": 0}, MARK + json.dumps(line))
        assert (list(found.nodes), found.done, found.torchtune) == ([0], False, "0.6.1")
        assert found.noise == json.dumps(line)


def test_an_answer_is_whole_when_each_node_and_the_end_were_heard() -> None:
    assert heard(*everything()).done
    assert not heard(*everything()[:-1]).done
    assert not heard(*everything()[1:]).done
    assert not heard(*everything(len(PARTS) + 1)).done


def test_why_torchtune_cannot_be_imported_is_kept() -> None:
    found = heard({"missing": "No module named 'torch'"}, {"torchtune": ""})
    assert (found.missing, found.done) == ("No module named 'torch'", False)


@pytest.mark.parametrize(("asked_for", "severity"), [(True, Severity.ERROR), (False, Severity.WARNING)])
@pytest.mark.parametrize(
    ("of", "code"), [(missing, "torchtune-missing"), (unanswered, "torchtune-unanswered")], ids=["missing", "silent"]
)
def test_what_nobody_asked_for_is_a_warning(of: object, code: str, asked_for: bool, severity: Severity) -> None:
    assert callable(of)
    found = of("/usr/bin/python", "it \x1b fell", asked_for=asked_for)
    assert (found.code, found.severity) == (code, severity)
    assert "'/usr/bin/python'" in found.message
    assert "--no-with-torchtune" in found.fix

"""The requests to torchtune, and the accepted answers. Nothing runs here: tests/contract uses the real one."""

import json

import pytest

from scaffold_torchtune.external_checks import WHOLE
from scaffold_torchtune.external_checks.ask_torchtune import (
    NodeQuestion,
    Python,
    TorchtuneAnswers,
    questions,
    read_answers,
    request_text,
    untested,
)
from scaffold_torchtune.finding_codes import Severity
from support.torchtune_configs import config

MARK = "a mark: "
PARTS = ["model", "tokenizer", "checkpointer", "dataset", "optimizer", "lr_scheduler", "loss", "metric_logger"]


def heard(*lines: object) -> TorchtuneAnswers:
    """Return the answers in some lines: an object is printed after the mark, a text verbatim."""
    texts = [line if isinstance(line, str) else MARK + json.dumps(line) for line in lines]
    return read_answers("\n".join(texts), MARK, len(PARTS))


def parts(asked: list[NodeQuestion]) -> list[str]:
    return [question.part for question in asked]


def everything(count: int = len(PARTS)) -> list[dict[str, int]]:
    return [*({"node": number} for number in range(count)), {"done": count}]


def test_every_component_is_sent_with_nothing_left_to_resolve() -> None:
    asked = questions([config()])
    assert parts(asked) == PARTS
    assert asked[2].node["checkpoint_dir"] == "/scratch/me/models//Llama-3.2-1B-Instruct/"
    assert "${" not in json.dumps([question.node for question in asked])


def test_shared_components_are_sent_once() -> None:
    first, second = config(), config("lora_rank: 8", "lora_rank: 16", directory="rank16")
    asked = questions([first, second])
    assert parts(asked) == [*PARTS, "model"]
    assert [config.directory for config in asked[1].configs] == ["rank8", "rank16"]
    assert [[config.directory for config in asked[n].configs] for n in (0, 8)] == [["rank8"], ["rank16"]]


def test_the_order_of_keys_does_not_matter() -> None:
    other = config("  lora_rank: 8\n  lora_alpha: 16\n", "  lora_alpha: 16\n  lora_rank: 8\n")
    assert len(questions([config(), other])) == len(PARTS)


def test_the_same_component_for_a_different_part_is_sent_separately() -> None:
    asked = questions([config("loss:\n", "other_loss:\n  _component_: x.Y\nloss:\n", "torchtune.modules.loss", "x")])
    assert {"other_loss", "loss"} <= set(parts(asked))
    same = "  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss\n"
    assert len(questions([config("loss:\n", f"other_loss:\n{same}loss:\n")])) == len(PARTS) + 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss", "  component: x"),
        ("loss:\n  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss", "loss: torchtune._component_"),
        ("loss:\n", "loss:\n  more: ${no_such_key}\n"),
    ],
)
def test_parts_without_a_component_or_with_unresolvable_values_are_not_sent(old: str, new: str) -> None:
    assert parts(questions([config(old, new)])) == [part for part in PARTS if part != "loss"]


def test_the_program_receives_the_mark_and_each_node_with_its_part() -> None:
    asked = questions([config()])
    given = json.loads(request_text(asked, MARK))
    assert given["mark"] == MARK
    assert [(one["part"], one["node"]) for one in given["nodes"]] == [
        (question.part, question.node) for question in asked
    ]


def test_only_lines_with_the_mark_are_answers() -> None:
    found = heard({"torchtune": "0.6.1", "torch": "2.13.0"}, "  a warning  ", '{"missing": "all"}', *everything())
    assert (found.torchtune, found.torch, found.missing, found.done) == ("0.6.1", "2.13.0", "", True)
    assert found.noise == '{"missing": "all"}'
    assert sorted(found.nodes) == list(range(len(PARTS)))
    nothing = heard("a warning", "   ")
    assert (nothing.noise, nothing.done) == ("a warning", False)


def test_an_unknown_line_does_not_change_the_answer() -> None:
    lines: list[object] = [{"node": "first"}, {"node": -1}, {"node": 1, "more": 1}, [], "{"]
    for line in lines:
        found = heard({"torchtune": "0.6.1", "torch": "2"}, {"node": 0}, MARK + json.dumps(line))
        assert (list(found.nodes), found.done, found.torchtune) == ([0], False, "0.6.1")
        assert found.noise == json.dumps(line)


def test_an_answer_is_complete_with_each_node_and_the_end() -> None:
    assert heard(*everything()).done
    assert not heard(*everything()[:-1]).done
    assert not heard(*everything()[1:]).done
    assert not heard(*everything(len(PARTS) + 1)).done


def test_the_reason_for_a_failed_import_of_torchtune_is_kept() -> None:
    found = heard({"missing": "No module named 'torch'"}, {"torchtune": ""})
    assert (found.missing, found.done) == ("No module named 'torch'", False)


@pytest.mark.parametrize(("asked_for", "severity"), [(True, Severity.ERROR), (False, Severity.WARNING)])
@pytest.mark.parametrize("code", ["torchtune-missing", "torchtune-unanswered"])
def test_an_unrequested_check_that_fails_is_a_warning(code: str, asked_for: bool, severity: Severity) -> None:
    directory, found = untested(code, Python("/usr/bin/python", asked_for), "it \x1b fell")
    assert (directory, found.code, found.severity) == (WHOLE, code, severity)
    assert "'/usr/bin/python'" in found.message
    assert "--no-with-torchtune" in found.fix

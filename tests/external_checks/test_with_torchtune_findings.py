"""The findings from torchtune's answers: refusals, LoRA that differs from the config, and agreement."""

from typing import Any

import pytest

from scaffold_torchtune.external_checks import WHOLE
from scaffold_torchtune.external_checks.ask_torchtune import Config, Line, TorchtuneAnswers, findings, questions
from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding
from support.torchtune_configs import config
from support.wording import absent

MODEL = {"parameters": 10**9, "lora": 663552 * 8, "layers": 16}
ATTENTION = {"q_proj": 16, "v_proj": 16, "output_proj": 16}
Found = tuple[dict[str, list[Finding]], list[Finding]]


def answered(*configs: Config, **lines: Any) -> Found:
    """Return the findings if torchtune, of some `version`, has an answer for some parts, and accepts all others."""
    version = lines.pop("version", "0.6.1")
    asked = questions(configs or [config()])
    usual = {"model": {**MODEL, "attention": ATTENTION}} | lines
    nodes = {number: Line(**usual.get(part, {})) for number, (part, _, _) in enumerate(asked)}
    runs: dict[str, list[Finding]] = {}
    answers = TorchtuneAnswers(torchtune=version, torch="2.13.0", nodes=nodes, done=True)
    for directory, found in findings(asked, answers, "/env/bin/python"):
        runs.setdefault(directory, []).append(found)
    whole = runs.pop(WHOLE, [])
    return runs, whole


def built(**changes: Any) -> dict[str, Any]:
    return {**MODEL, "attention": ATTENTION, **changes}


def the_one(found: Found) -> Finding:
    """Return the only finding of the run, after checking that no note states that torchtune agrees."""
    runs, whole = found
    assert whole == []
    ((finding,),) = runs.values()
    return finding


def consent(found: Found) -> Finding:
    runs, whole = found
    assert not any(runs.values())
    assert whole[-1].code == "torchtune-agrees"
    return whole[-1]


def test_agreement_lists_each_built_component_once() -> None:
    same = [config(directory=f"run{n}") for n in range(3)]
    found = consent(answered(*same))
    assert (found.severity, found.fix) == (Severity.INFO, "")
    whose, _, models = found.message.partition(": ")
    assert absent(whose, "torchtune 0.6.1", "torch 2.13.0", "'/env/bin/python'", 3, 1) == []
    assert absent(models, "lora_llama3_2_1b", "rank 8", "1,000,000,000", "5,308,416") == []
    assert models.count("lora_llama3_2_1b") == 1
    uncounted = [config("lora_rank: 8", f"lora_rank: '{n}'", directory=f"rank{n}") for n in (8, 9)]
    whose, _, models = consent(answered(*uncounted)).message.partition(": ")
    assert absent(whose, "2 configs", "2 distinct") == []
    assert models.count("lora_llama3_2_1b") == 2


def test_agreement_without_a_model_names_none() -> None:
    found = consent(answered(model={"unasked": "not built"}))
    assert found.message.endswith("1 config"), "nothing follows the count"
    assert "lora_llama3_2_1b" not in found.message


def test_agreement_names_at_most_five_models() -> None:
    for count, more in ((5, False), (6, True)):
        many = [config("lora_rank: 8", f"lora_rank: '{n}'", directory=f"rank{n}") for n in range(count)]
        message = consent(answered(*many)).message
        assert (message.count("lora_llama3_2_1b"), "..." in message) == (5, more)


def test_a_model_without_lora_is_trained_completely() -> None:
    whole = config("lora_llama3_2_1b", "llama3_2_1b", "  lora_rank: 8\n", "", "lora_attn_modules", "# ")
    found = consent(answered(whole, model={"parameters": 5}))
    model = found.message.partition(": ")[2]
    assert absent(model, "llama3_2_1b", 5) == []
    assert "LoRA" not in model


@pytest.mark.parametrize(
    ("version", "other"), [("0.6.1", False), ("0.6.1+cpu", False), ("0.7.0", True), ("0.7.0.dev1+cu", True)]
)
def test_a_different_version_is_named(version: str, other: bool) -> None:
    found = consent(answered(version=version))
    assert absent(found.message, f"torchtune {version}") == []
    assert found.message.replace(f"torchtune {version}", "").count("0.6.1") == other
    assert bool(found.fix) is other
    assert absent(found.fix, "torchtune 0.6.1") == ([] if other else ["torchtune 0.6.1"])


def test_a_refusal_is_at_the_refused_value() -> None:
    refused = {"refused": "no such \x1b" + "x" * 600, "path": ("optimizer", "weight_decay")}
    found = the_one(answered(optimizer=refused))
    assert (found.code, found.severity, found.field) == ("torchtune-refused", Severity.ERROR, "optimizer.weight_decay")
    assert (found.actual, found.file) == ("0.01", "rank8/finetune.yaml")
    assert found.line == config().file.document.line(("optimizer", "weight_decay"))
    assert absent(found.message, "torchtune 0.6.1") == []
    assert ": no such \\x1bxxx" in found.message
    assert len(found.message) < 600


@pytest.mark.parametrize(
    ("path", "actual"),
    [
        (("optimizer", "lr"), "1e-05"),
        (("model", "lora_rank"), "8"),
        (("loss", "_component_"), "torchtune.modules.loss.CEWithChunkedOutputLoss"),
        (("loss",), None),
        (("loss", "gone", "too"), None),
        (("model", "lora_attn_modules"), None),
        (("epochs", "x"), None),
    ],
)
def test_a_refusal_states_a_scalar_value(path: tuple[str, ...], actual: str | None) -> None:
    assert the_one(answered(loss={"refused": "no", "path": path})).actual == actual


def test_every_run_with_a_refused_component_has_the_finding() -> None:
    runs, _ = answered(*(config(directory=name) for name in "ab"), loss={"refused": "no", "path": ("loss",)})
    assert {name: [each.file for each in found] for name, found in runs.items()} == {
        "a": ["a/finetune.yaml"],
        "b": ["b/finetune.yaml"],
    }


@pytest.mark.parametrize(
    ("attention", "has"),
    [
        ({}, "none"),
        ({"q_proj": 16}, "q_proj"),
        (ATTENTION | {"v_proj": 15}, "output_proj, q_proj, v_proj"),
        (ATTENTION | {"k_proj": 16}, "k_proj, output_proj, q_proj, v_proj"),
        (ATTENTION | {"k_proj": 1}, "k_proj, output_proj, q_proj, v_proj"),
    ],
)
def test_lora_in_modules_that_differ_from_the_config_is_an_error(attention: dict[str, int], has: str) -> None:
    found = the_one(answered(model=built(attention=attention)))
    assert (found.code, found.severity, found.field) == ("lora-differs", Severity.ERROR, "model.lora_attn_modules")
    assert (found.expected, found.actual) == ("q_proj, v_proj, output_proj", has)
    assert found.line == config().file.document.line(("model", "lora_attn_modules"))


def test_lora_modules_that_are_not_a_list_count_as_none() -> None:
    text = config("[q_proj, v_proj, output_proj]", "q_proj")
    assert the_one(answered(text)).expected == "none"
    consent(answered(text, model=built(attention={})))


def test_lora_of_a_different_size_is_an_error() -> None:
    found = the_one(answered(model=built(lora=7)))
    assert (found.code, found.field, found.expected, found.actual) == ("lora-differs", "model.lora_rank", 5308416, 7)


@pytest.mark.parametrize("line", [{"parameters": 0, "lora": 7, "layers": 16}, {"unasked": "no"}])
def test_components_that_were_not_built_are_not_counted(line: dict[str, Any]) -> None:
    consent(answered(model=line))


def test_a_model_without_known_layers_is_not_searched() -> None:
    consent(answered(model=built(layers=0, attention={})))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("apply_lora_to_mlp: true", "apply_lora_to_mlp: some"),
        ("apply_lora_to_mlp: true", "apply_lora_to_output: true"),
        ("  lora_rank: 8\n", "  lora_rank: eight\n"),
        ("  lora_rank: 8\n", "  lora_rank: true\n"),
        ("  lora_rank: 8\n", "  lora_rank: 8\n  use_dora: true\n"),
        ("torchtune.models.llama3_2.lora_llama3_2_1b", "torchtune.models.llama3_2.lora_llama3_2"),
    ],
)
def test_lora_outside_the_known_facts_is_not_counted(old: str, new: str) -> None:
    consent(answered(config(old, new), model=built(lora=7)))


def test_modules_in_a_different_order_are_the_same() -> None:
    other = config("[q_proj, v_proj, output_proj]", "[output_proj, v_proj, q_proj]")
    assert the_one(answered(other, model=built(lora=7))).field == "model.lora_rank"
    consent(answered(other))


@pytest.mark.parametrize(
    ("old", "new", "attention", "lora"),
    [
        ("[q_proj, v_proj, output_proj]", "[q_proj]", {"q_proj": 16}, 8 * (65_536 + 491_520)),
        ("apply_lora_to_mlp: true", "apply_lora_to_mlp: false", None, 8 * (65_536 + 40_960 + 65_536)),
    ],
)
def test_lora_in_other_modules_is_counted_as_in_the_facts(
    old: str, new: str, attention: dict[str, int] | None, lora: int
) -> None:
    asked, has = config(old, new), {} if attention is None else {"attention": attention}
    consent(answered(asked, model=built(lora=lora, **has)))
    found = the_one(answered(asked, model=built(lora=lora + 1, **has)))
    assert (found.code, found.expected, found.actual) == ("lora-differs", lora, lora + 1)


def test_third_party_components_are_one_note() -> None:
    lines = {part: {"unasked": "not torchtune's"} for part in ("dataset", "loss")}
    _, (unasked, agrees) = answered(**lines)
    assert (unasked.code, unasked.severity, agrees.code) == ("torchtune-unasked", Severity.INFO, "torchtune-agrees")
    dataset, loss = unasked.message.split(") and ")
    assert absent(dataset, "dataset", "'torchtune.datasets.instruct_dataset'", "not torchtune's") == []
    assert absent(loss, "loss", "'torchtune.modules.loss.CEWithChunkedOutputLoss'", "not torchtune's") == []


def test_all_unchecked_components_are_named() -> None:
    parts = ["tokenizer", "dataset", "loss", "optimizer", "lr_scheduler", "metric_logger"]
    _, (one, _) = answered(loss={"unasked": "no"})
    assert absent(one.message, "the component 'loss'") == []
    _, (six, _) = answered(**{part: {"unasked": "no"} for part in parts})
    assert absent(six.message, "the components", *parts) == []


def test_unchecked_components_are_reported_together_with_refusals() -> None:
    runs, (unasked,) = answered(loss={"unasked": "no"}, model={"refused": "no", "path": ("model",)})
    assert unasked.code == "torchtune-unasked"
    assert [found.code for found in runs["rank8"]] == ["torchtune-refused"]

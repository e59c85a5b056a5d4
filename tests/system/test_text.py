"""Suggestions for unknown words, of which a document may contain any number."""

import difflib
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune import findings
from scaffold_torchtune.findings import Refused, close_matches, few_suggestions
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings.parameters import KEYS


@pytest.mark.long
def test_the_number_of_compared_words_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    original = difflib.get_close_matches

    def counted(word: str, known: Any, **given: Any) -> list[str]:
        compared.append(word)
        return original(word, known, **given)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    for _ in range(2):
        with few_suggestions():
            found = [close_matches(f"lora_rank{number}", KEYS) for number in range(3_000)]
            assert close_matches("lora_rank0", KEYS) == ["lora_rank", "lora_alpha"]
        assert [bool(each) for each in found] == [True] * 1_000 + [False] * 2_000
    assert len(compared) == 2_000, "each once"
    assert close_matches("lora_rankk", KEYS), "elsewhere there is no bound"
    assert not close_matches("lora_rank" * 1_000, ["lora_rank" * 1_000])


@pytest.mark.parametrize("name", ["template", "summary"])
def test_many_unknown_keys_are_compared_only_up_to_the_limit(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    most = 100
    monkeypatch.setattr(findings, "_MOST_WORDS", most)
    lines = "".join(f"lora_rnk{number}: 1\n" for number in range(10 * most))
    file = experiment / ("setup_finetune_json.yaml" if name == "template" else "experiment_summary.yaml")
    file.write_text(lines)
    compared: list[str] = []
    original = difflib.get_close_matches

    def counted(word: str, known: Any, **given: Any) -> list[str]:
        compared.append(word)
        return original(word, known, **given)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    with pytest.raises(Refused):
        steps.plan(Request(experiment, template=file if name == "template" else None))
    assert 0 < len(compared) <= most, "however many there are"

"""Refused data raise an exception in torchtune, train nothing, or ruin the trained weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.cli.dispatch import prepare_demo
from scaffold_torchtune.findings import Finding, errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support import needs
from support.random_model import write_tokenizer
from support.scaffolding import refusal
from support.tiny_qwen import make_tiny_qwen
from support.tiny_training import Trained, is_number, train

pytestmark = [*needs.TORCHTUNE, pytest.mark.timeout(300)]

QWEN, MISTRAL = "Qwen2.5-0.5B-Instruct", "Mistral-7B-Instruct-v0.1"
PAIR = {"input": "word", "output": "WORD"}
USER, OWN = {"role": "user", "content": "word"}, {"role": "assistant", "content": "WORD"}
SYSTEM, TOOL = {"role": "system", "content": "Shout."}, {"role": "tool", "content": "5"}
CHAT = "- **Dataset type:** chat_dataset"
SHORT = "- **Max sequence length:** 96"
FULL = "- **Recipe:** full"
ACCUMULATE = "- **Gradient accumulation:** 2"
TEXTS = "- **Dataset type:** text_completion_dataset"


def chats(*bad: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"messages": each} for each in ([USER, OWN], [USER, OWN], [USER, OWN], *bad)]


@dataclass(frozen=True)
class Case:
    """Data, the expected finding code and the outcome in torchtune, with valid data of the same form."""

    rows: list[dict[str, Any]]
    told: str
    outcome: str
    lines: tuple[str, ...] = ()
    batch: int = 1
    model: str = QWEN
    good: list[dict[str, Any]] | None = None


LONG = {"input": "word " * 100, "output": "WORD"}
CASES = {
    "one long prompt": Case([PAIR] * 7 + [LONG], "no-labels", "ruined", (SHORT,)),
    "one long prompt, all weights": Case([PAIR] * 7 + [LONG], "no-labels", "ruined", (SHORT, FULL)),
    "more long prompts than batches can share": Case([LONG] * 7 + [PAIR], "no-labels", "ruined", (SHORT,), 2),
    "one long prompt, accumulated": Case([PAIR] * 7 + [LONG], "", "NaN in the log", (SHORT, ACCUMULATE)),
    "no other than long prompts, accumulated": Case([LONG] * 8, "no-labels", "ruined", (SHORT, ACCUMULATE)),
    "a prompt that fits": Case([PAIR] * 7 + [{**LONG, "input": "word " * 5}], "", "trained", (SHORT,)),
    "one long prompt, packed": Case([PAIR] * 7 + [LONG], "no-labels", "ruined", (SHORT, "- **Packed:** yes")),
    "more long prompts than packs can share": Case([LONG] * 7 + [PAIR], "no-labels", "ruined",
                                                   (SHORT, "- **Packed:** yes"), 2),
    "packs that do not fill a step": Case([PAIR] * 40, "no-steps", "no step", ("- **Packed:** yes",), 16,
                                          good=[{**PAIR, "input": "word " * 400}] * 16),
    "an empty text": Case([{"text": "word"}, {"text": ""}], "", "NaN in the log", (TEXTS,), good=[{"text": "word"}]),
    "two users": Case(chats([USER, USER, OWN]), "data-mismatch", "raised", (CHAT,)),
    "an assistant after a tool": Case(chats([USER, OWN, TOOL, OWN]), "data-mismatch", "raised", (CHAT,)),
    "a role that is a list": Case(chats([{**USER, "role": ["user"]}, OWN]), "data-mismatch", "raised", (CHAT,)),
    "no assistant": Case(chats([SYSTEM, USER]), "data-mismatch", "ruined", (CHAT,)),
    "no assistant, trained on input": Case(chats([SYSTEM, USER]), "", "trained", (CHAT, "- **Train on input:** yes")),
    "system messages that give way": Case(chats([USER, OWN, SYSTEM, USER, OWN]), "", "trained", (CHAT, "prompt")),
    "a system message for Mistral": Case(chats([SYSTEM, USER, OWN]), "data-mismatch", "raised", (CHAT,), model=MISTRAL),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create the tokenizers of the models, and the tiny model that is trained instead of them."""
    folder = tmp_path_factory.mktemp("models")
    make_tiny_qwen(folder / "tiny")
    (folder / QWEN).mkdir()
    write_tokenizer(folder / QWEN)
    (folder / MISTRAL).mkdir()
    (folder / MISTRAL / "tokenizer.model").write_bytes(_pieces(folder))
    return folder


def _pieces(folder: Path) -> bytes:
    import sentencepiece

    (folder / "texts").write_text("word WORD Shout [INST] [/INST]\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts"), model_prefix=str(folder / "pieces"), vocab_size=285, byte_fallback=True,
        model_type="bpe", minloglevel=2,
    )  # fmt: skip
    return (folder / "pieces.model").read_bytes()


@pytest.mark.parametrize("name", CASES)
def test_findings_about_data_predict_the_outcome_of_the_training(name: str, models: Path, tmp_path: Path) -> None:
    case = CASES[name]
    experiment = make(tmp_path, case)
    data = experiment / "data" / "words_5L_300.json"
    found = look(experiment, models, data, case.rows)
    assert {each.code for each in found} == ({case.told} if case.told else set())
    data.write_text(json.dumps({"train": case.good or (chats() if CHAT in case.lines else [PAIR] * 8)}))
    assert main(["scaffold", str(experiment)]) == 0
    data.write_text(json.dumps({"train": case.rows}))
    (run,) = [each.parent for each in experiment.glob("*/finetune.yaml")]
    use_tokenizer(run, models, case.model)
    recipe = f"{'full' if FULL in case.lines else 'lora'}_finetune_single_device"
    trained = train(run, models / "tiny", tmp_path / "out", tmp_path / "cache", recipe)
    assert outcome(trained) == case.outcome, trained


def make(tmp_path: Path, case: Case) -> Path:
    """Create the bundled example with one run, whose model is not found on this machine."""
    experiment = prepare_demo(tmp_path / "experiment")
    text = (experiment / "experiment_summary.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| Llama") and "rank8_lr1e-5" not in line]
    for row in rows:
        text = text.replace(f"{row}\n", "")
    text = text.replace("Llama-3.2-1B-Instruct", case.model).replace("1 control", "0 controls")
    text = text.replace("| 8 | 1e-5 | 4 |", f"| 8 | 1e-5 | {case.batch} |").replace(
        "**Batch size:** 4", "**Note:** none"
    )
    text = text.replace("**Warmup steps:** 10", "**Warmup steps:** 0").replace("**Epochs:** 2", "**Epochs:** 1")
    if FULL in case.lines:
        text = text.replace("| 8 | 1e-5 |", "| - | 1e-5 |").replace("_rank8", "")
    kept = ("Splits", "Size", "Recipe", "System prompt") if "prompt" not in case.lines else ("Splits", "Size", "Recipe")
    lines = [line for line in text.splitlines() if not any(f"**{label}:**" in line for label in kept)]
    at = lines.index("- **GPUs:** 1")
    lines[at:at] = [line for line in case.lines if line.startswith("- ")]
    (experiment / "experiment_summary.md").write_text("\n".join(lines) + "\n")
    return experiment


CODES = {"no-labels", "no-steps", "data-mismatch"}


def look(experiment: Path, models: Path, data: Path, rows: list[dict[str, Any]]) -> list[Finding]:
    """Return the findings that refuse the data, which must be the same with and without the tokenizer."""
    data.write_text(json.dumps({"train": rows}))
    summary = experiment / "experiment_summary.md"
    text = summary.read_text()
    found = []
    for folder in (models, Path("/scratch/lab/pretrained-llms")):
        summary.write_text(text.replace("/scratch/lab/pretrained-llms", str(folder)))
        problems = errors_in(refusal(steps.plan, experiment).problems) if folder == models else errors(experiment)
        found.append([each for each in problems if each.code in CODES])
    summary.write_text(text)
    assert [each.code for each in found[0]] == [each.code for each in found[1]]
    return found[0]


def errors(experiment: Path) -> list[Finding]:
    from scaffold_torchtune.findings import Refused

    try:
        steps.plan(Request(experiment))
    except Refused as refused:
        return errors_in(refused.problems)
    return []


def use_tokenizer(run: Path, models: Path, model: str) -> None:
    """Set the path of the existing tokenizer in the config; the model's directory does not exist."""
    config = run / "finetune.yaml"
    text = config.read_text()
    assert "models_dir: /scratch/lab/pretrained-llms" in text
    config.write_text(text.replace("models_dir: /scratch/lab/pretrained-llms", f"models_dir: {models}"))
    assert (models / model).is_dir()


def outcome(trained: Trained) -> str:
    if trained.error:
        return "raised"
    if trained.steps == 0:
        return "no step"
    if trained.ruined:
        return "ruined"
    if trained.nan:
        return "ruined in part"
    return "trained" if is_number(trained.losses) else "NaN in the log"

"""`validate` with the real torchtune: it accepts a good scaffold and reports faults that only torchtune can find."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli.dispatch import prepare_demo
from scaffold_torchtune.external_checks.ask_torchtune import Config, Line, questions, read_answers, request_text
from scaffold_torchtune.pipeline.steps import scaffold
from scaffold_torchtune.request import Request
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.serialization import read_yaml
from scaffold_torchtune.torchtune_facts import known_models
from scaffold_torchtune.torchtune_facts.facts import load
from scaffold_torchtune.validate.run_files import ResolvedConfig
from support import needs
from support.experiments import RUNS, TO_RECIPES, change, make_experiment
from support.scaffolding import answers, validated
from support.wording import absent

PROGRAM = Path(__file__).parents[2] / "server/scaffold_torchtune/external_checks/torchtune_program.py"

pytestmark = needs.TORCHTUNE

LORA: dict[str, Any] = {
    "lora_attn_modules": ["q_proj", "v_proj", "output_proj"],
    "apply_lora_to_mlp": True,
    "lora_rank": 8,
}
LLAMA = "torchtune.models.llama3_2.lora_llama3_2_1b"
SCHEDULE = "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup"


def node(part: str, component: str, **given: Any) -> dict[str, Any]:
    return {part: {"_component_": component, **given}}


def test_the_example_is_accepted_with_its_parameter_counts(tmp_path: Path) -> None:
    result = scaffold(Request(prepare_demo(tmp_path / "example"), sbatch=False, with_torchtune=True))
    assert result.ok
    assert [run.findings for run in result.validation.runs] == [()] * 4
    (found,) = answers(result.validation)
    assert found.code == "torchtune-agrees"
    whose, _, models = found.message.partition(": ")
    assert absent(whose, 4, 2) == []
    small, large = models.split(" and ")
    assert absent(small, "lora_llama3_2_1b", "rank 8", "1,241,122,816", "5,308,416") == []
    assert absent(large, "lora_llama3_2_1b", "rank 16", "1,246,431,232", "10,616,832") == []
    assert found.fix == ""  # the installed version is that of the facts


def test_full_fine_tuning_is_accepted_together_with_lora(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "compared", replace=TO_RECIPES)
    result = scaffold(Request(experiment, sbatch=False, with_torchtune=True))
    assert result.ok
    (found,) = answers(result.validation)
    models = found.message.partition(": ")[2].split(" and ")
    (adapter,) = [model for model in models if "LoRA" in model]
    (whole,) = [model for model in models if "LoRA" not in model]
    assert absent(adapter, "lora_llama3_2_1b", "rank 64", "1,278,281,728", "42,467,328") == []
    assert absent(whole, "llama3_2_1b", "1,235,814,400") == []


def test_faults_are_reported_at_their_lines_and_foreign_code_does_not_run(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    (tmp_path / "of_a_config.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef data(): pass\n")
    files = [done / run / "finetune.yaml" for run in RUNS]
    change(files[0], "v_proj", "v_prj")
    change(files[1], "  lora_rank: 8\n", "  lora_rank: 8\n  num_heads: 7\n")
    change(files[2], "lora_llama3_2_1b", "lora_llama3_2_1c")
    change(files[3], "weight_decay: 0.01", "weight_decay: -1")
    change(files[3], "torchtune.datasets.instruct_dataset", "of_a_config.data")
    result = validated(done, with_torchtune=True)
    found = {
        run.directory: [
            (f.code, f.field, (done / str(f.file)).read_text().splitlines()[f.line - 1].strip())
            for f in run.findings
            if f.code in {"torchtune-refused", "lora-differs"} and f.line
        ]
        for run in result.runs
    }
    modules = next(line.strip() for line in files[0].read_text().splitlines() if "lora_attn_modules" in line)
    assert found == {
        RUNS[0]: [
            ("lora-differs", "model.lora_attn_modules", modules),
        ],
        RUNS[1]: [("torchtune-refused", "model.num_heads", "num_heads: 7")],
        RUNS[2]: [("torchtune-refused", "model._component_", f"_component_: {LLAMA[:-1]}c")],
        RUNS[3]: [("torchtune-refused", "optimizer.weight_decay", "weight_decay: -1")],
    }
    (unasked,) = answers(result)
    assert unasked.code == "torchtune-unasked"
    assert absent(unasked.message, "dataset", "'of_a_config.data'") == []
    assert not (tmp_path / "ran").exists()


REFUSED: dict[str, tuple[Mapping[str, Any], list[str], str]] = {
    "heads that do not divide": (
        node(
            "model",
            "torchtune.models.llama3_2.lora_llama3_2",
            **LORA,
            lora_alpha=16,
            vocab_size=64,
            num_layers=1,
            num_heads=7,
            num_kv_heads=3,
            embed_dim=64,
            max_seq_len=16,
            intermediate_dim=64,
        ),
        ["model", "num_heads"],
        "num_heads",
    ),
    "a rank in words": (node("model", LLAMA, **{**LORA, "lora_rank": "eight"}), ["model"], "str"),
    "a module": (node("model", "torchtune.models.llama3_2"), ["model", "_component_"], "cannot be called"),
    "a dotted path of nothing": (node("loss", "torchtune..loss"), ["loss", "_component_"], "invalid dotstring"),
    "a line break": (node("loss", "torchtune.no\nwhere"), ["loss", "_component_"], "no where"),
    "a number": (node("lr_scheduler", SCHEDULE, num_warmup=10), ["lr_scheduler", "num_warmup"], "num_warmup"),
    "a learning rate": (node("optimizer", "torch.optim.AdamW", lr=-1), ["optimizer"], "Invalid learning rate"),
}
UNASKED = [
    node("model", "torchtune.training.checkpointing._checkpointer.os.system", command="exit 3"),
    node("dataset", "os.system", command="exit 3"),
    node("dataset", 7),  # type: ignore[arg-type]
    node("loss", "torch.load", f="nothing"),
    node("optimizer", "torch.nn.Linear", in_features=1, out_features=1),
    node("lr_scheduler", "torch.hub.load", repo_or_dir="nothing", model="x"),
    node("model", "torchtune.models.llama3.llama3_tokenizer", path="nothing"),
    node("model", "torchtune.models.llama3_2.qlora_llama3_2_1b", **LORA),
    node("model", LLAMA, **LORA, quantize_base=True),
]
TAKEN = [
    node("loss", "torchtune.modules.loss.CEWithChunkedOutputLoss"),
    node("optimizer", "torch.optim.AdamW", lr=1e-5, fused=True),
    node("lr_scheduler", SCHEDULE, num_warmup_steps=10),
    node("tokenizer", "torchtune.models.llama3.llama3_tokenizer", path="nothing"),
]


MODELS = {model.lora_builder: model for model in (load().models[name] for name in known_models())}
BUILT = [node("model", builder, lora_alpha=16, **LORA) for builder in MODELS]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    """Return the answers of the real program about all nodes, one after the other, with each model four times."""
    nodes = [*(data for data, _, _ in REFUSED.values()), *UNASKED, *TAKEN, *BUILT]
    configs = (ResolvedConfig(read_yaml(""), dict(one), {}) for one in [*nodes, *BUILT, *BUILT, *BUILT])
    asked = questions(Config(str(number), config) for number, config in enumerate(configs))
    assert len(asked) == len(nodes)
    folder = tmp_path_factory.mktemp("empty")
    done = processes.run([sys.executable, str(PROGRAM)], folder, 250, given=request_text(asked, "@@"), tail=10**6)
    answers = read_answers(done.output, "@@", len(asked))
    assert answers.done, done.output
    return [answers.nodes[number] for number in range(len(nodes))]


def test_a_node_that_torchtune_rejects_is_reported_with_its_key(lines: list[Line]) -> None:
    for (name, (_, path, said)), line in zip(REFUSED.items(), lines, strict=False):
        assert (name, list(line.path), said in line.refused) == (name, path, True), line.refused


def test_foreign_and_unsafe_components_are_not_built(lines: list[Line]) -> None:
    for asked, line in zip(UNASKED, lines[len(REFUSED) :], strict=False):
        assert (asked, line.refused, bool(line.unasked)) == (asked, "", True)


def test_good_nodes_are_accepted(lines: list[Line]) -> None:
    for asked, line in zip(TAKEN, lines[len(REFUSED) + len(UNASKED) :], strict=False):
        assert (asked, line.refused, line.unasked) == (asked, "", "")


def test_every_model_is_built_once_with_the_parameters_of_the_facts(lines: list[Line]) -> None:
    for facts, line in zip(MODELS.values(), lines[-len(BUILT) :], strict=True):
        assert (line.refused, line.unasked) == ("", "")
        each = facts.lora_parameters(LORA["lora_attn_modules"], mlp=LORA["apply_lora_to_mlp"], output=False)
        assert each is not None
        assert line.lora == 8 * each
        assert line.parameters == facts.parameters + line.lora
        assert line.attention == dict.fromkeys(LORA["lora_attn_modules"], facts.layers)

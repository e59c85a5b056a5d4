"""Names of methods: only known words are accepted, in lines, columns, types, names and claude.local.md."""

import contextlib

import pytest

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.parse import compound, notations, parse_experiment
from scaffold_torchtune.parse.drafts import SourceText
from scaffold_torchtune.parse.notations import NotHonoured
from scaffold_torchtune.settings.unsupported import CONSTANTS, NOT_PLANNED, asks_for_nothing, other_training
from support.documents import LOCAL, MODEL, local_md, parsed, planned, refusal, runs, summary, table, told
from support.sampling import spread

LORA = [
    "LoRA", "lora", "LoRA fine-tuning", "PEFT: LoRA", "PEFT/LoRA", "Low-Rank Adaptation (LoRA)", "LoRA adapters",
    "LoRA, all layers", "LoRA (bf16, no quantization)", "LoRA without DoRA", "LoRA (not QLoRA)", "Standard LoRA",
    "Supervised fine-tuning with LoRA adapters", "LoRA (see the table)", "LoRA ✓", "LoRA¹",
    "LoRA\u2011based fine-tuning",
    "LoRA fine-tuning of Llama-3.2-1B-Instruct", "LoRA with torchtune 0.6.1", "LoRA SFT",
    "LoRA with a frozen base model",
]  # fmt: skip
FULL = [
    "full",
    "Full fine-tuning",
    "full-parameter fine-tuning of all weights",
    "Full FT (no LoRA)",
    "full, no adapters",
]
RECIPES = [
    "lora_finetune_single_device",
    "full_finetune_distributed",
    "LoRA via torchtune's lora_finetune_single_device",
]


@pytest.mark.parametrize("text", LORA)
def test_lora_in_words(text: str) -> None:
    assert notations.read_method(text) == ("lora", {}, ())


@pytest.mark.parametrize("text", FULL)
def test_full_fine_tuning_in_words(text: str) -> None:
    assert notations.read_method(text) == ("full", {}, ())


@pytest.mark.parametrize("text", RECIPES)
def test_a_recipe_is_the_most_specific_name_of_a_method(text: str) -> None:
    assert notations.read_method(text).recipe == text.rsplit(maxsplit=1)[-1].strip("()")


@pytest.mark.parametrize(
    ("text", "settings", "modules"),
    [
        ("LoRA (rank 8)", {"lora_rank": "8"}, ()),
        ("rank-8 LoRA", {"lora_rank": "8"}, ()),
        ("LoRA r=16, α=32, dropout 0.05", {"lora_rank": "16", "lora_alpha": "32", "lora_dropout": "0.05"}, ()),
        ("LoRA, lr 1e-4", {"lr": "1e-4"}, ()),
        ("LoRA lr 1e-4", {"lr": "1e-4"}, ()),
        ("LoRA on 2 GPUs", {"gpus": "2"}, ()),
        ("LoRA (q_proj, v_proj)", {}, ("q_proj", "v_proj")),
        ("LoRA, target_modules=[q_proj, o_proj]", {}, ("q_proj", "o_proj")),
        ("r=16", {"lora_rank": "16"}, ()),
    ],
)
def test_settings_next_to_a_method_are_read(text: str, settings: dict[str, str], modules: tuple[str, ...]) -> None:
    assert notations.read_method(text) == ("lora", settings, modules)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("LoRA with 4-bit quantization", "4-bit"), ("LoRA + DPO", "DPO"), ("LoRA with DoRA", "DoRA"),
        ("LoRA on attention only", "attention only"), ("QLoRA", "QLoRA"), ("LoRA+", "LoRA+"), ("LoRA-FA", "FA"),
        ("LoRA, frozen embeddings", "frozen embeddings"), ("LoRA r=8, r=16", "r=16"), ("LoRA on all linear layers", ""),
        ("supervised fine-tuning", ""), ("LoRA and full fine-tuning", ""), ("LoRA (no LoRA)", ""), ("", ""),
        ("a" * 400, ""),
    ],
)  # fmt: skip
def test_an_unknown_addition_to_a_method_is_refused_with_its_name(text: str, named: str) -> None:
    with pytest.raises(NotHonoured) as refused:
        notations.read_method(text)
    what = refused.value.what
    assert named in what or (what.startswith("which is not ") and named in text)
    assert refused.value.fix


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("4-bit", "4-bit"), ("DPO after SFT", "DPO"), ("quantization-aware", "quantization"),
        ("a Dora the explorer", "Dora"),
        ("no quantization or DoRA", None), ("not QLoRA", None), ("unquantized", None), ("16-bit", None),
        ("quantization: off", None), ("LoRA rank 8", None), ("no DPO, but QLoRA", "QLoRA"), ("rabbits, orders", None),
    ],
)  # fmt: skip
def test_other_techniques_are_found_unless_they_are_negated(text: str, named: str | None) -> None:
    assert other_training(text) == named


@pytest.mark.parametrize(
    ("text", "nothing"), [("no", True), ("None (bf16)", True), ("`false`", True), ("0", True), ("4", False)]
)
def test_a_technique_that_is_switched_off_requests_nothing(text: str, nothing: bool) -> None:
    assert asks_for_nothing(text) is nothing
    if nothing:
        assert planned(summary(training=dict.fromkeys(NOT_PLANNED.keys() - CONSTANTS, text))).warnings == ()
        return
    for label in NOT_PLANNED.keys() - CONSTANTS:
        assert [p.code for p in refusal(planned, summary(training={label: text}))] == ["unsupported-setting"]


def error_of(text: str, local: str | None = None) -> Finding:
    (problem,) = [p for p in refusal(planned, text, local) if p.severity == "error"]
    return problem


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("Fine-tuned (LoRA)", None),
        ("Fine-tuned (full)", "full_finetune_single_device"),
        ("LoRA", None),
        ("Full fine-tuning", "full_finetune_single_device"),
        ("Full FT (all weights)", "full_finetune_single_device"),
        ("full_finetune_single_device", "full_finetune_single_device"),
    ],
)
def test_the_type_of_a_row_may_name_its_method(kind: str, recipe: str | None) -> None:
    table = runs(1).replace("Fine-tuned", kind).replace("| 8 |", "| - |" if recipe else "| 8 |")
    run = planned(summary(table=table)).runs[0]
    assert run.value("custom_recipe") == recipe


@pytest.mark.parametrize("kind", ["Fine-tuned (QLoRA)", "Fine-tuned, DPO", "QLoRA", "Fine-tuned (LoRA, 4-bit)"])
def test_the_type_of_a_row_may_not_name_an_unsupported_method(kind: str) -> None:
    found = error_of(summary(table=runs(1).replace("Fine-tuned", kind)))
    assert (found.code in {"unsupported-setting", "invalid-value"}, found.field, found.line) == (True, "type", 6)


def test_a_type_and_a_column_may_not_give_two_methods() -> None:
    table = runs(2, Method=["LoRA", "LoRA"]).replace("LoRA | Fine-tuned", "LoRA | Full fine-tuning", 1)
    assert told([error_of(summary(table=table))]) == [("ambiguous", "recipe", "experiment_summary.md", 6)]


@pytest.mark.parametrize("cell", ["full", "Full fine-tuning", "- (full)", "n/a (full FT)", "no LoRA", "FFT", "all"])
@pytest.mark.parametrize("column", ["LoRA_Rank", "LoRA_Alpha"])
def test_a_cell_of_lora_that_says_full_fine_tuning_needs_a_column_of_methods(column: str, cell: str) -> None:
    ranks = ["8", cell] if column == "LoRA_Rank" else ["8", "-"]
    lrs = ["1e-4", "1e-5"]
    table = runs(2, LoRA_Rank=ranks, Learning_Rate=lrs)
    if column == "LoRA_Alpha":
        table = runs(2, LoRA_Rank=ranks, Learning_Rate=lrs, LoRA_Alpha=["8", cell])
    found = error_of(summary(table=table))
    field = column.lower()
    assert told([found]) == [("unsupported-setting", field, "experiment_summary.md", 7)]
    assert "column `Method`" in found.fix
    fixed = runs(2, LoRA_Rank=["8", "-"], Learning_Rate=["1e-4", "1e-5"], Method=["LoRA", "full fine-tuning"])
    assert [run.value("lora_rank") for run in planned(summary(table=fixed)).runs] == [8, None]
    line = error_of(summary(table=runs(1, LoRA_Rank=["-"]), training={column.replace("_", " "): cell}))
    assert (line.code, line.field) == ("unsupported-setting", field)


FULL_NAMES = ["full_finetune", "full-ft", "1B_full_finetuning_lr1e-5", "FullFT", "full weights fine-tuned", "full",
              "full_lr1e-5", "Llama-3.2-1B-Instruct_full", "fft"]  # fmt: skip


@pytest.mark.parametrize("name", FULL_NAMES)
@pytest.mark.parametrize("training", [{}, {"LoRA rank": "8"}, {"Recipe": "lora_finetune_single_device"}])
def test_a_run_named_after_full_fine_tuning_does_not_become_lora(name: str, training: dict[str, str]) -> None:
    table = runs(2, LoRA_Rank=["8", "-"], Learning_Rate=["1e-4", "1e-5"]).replace("run_2", name)
    found = error_of(summary(table=table, training=training))
    assert told([found]) == [("ambiguous", "recipe", "experiment_summary.md", 7)]
    assert f"add a column `Method` to the table of runs, with `full` for {name} and `LoRA` for the others" in found.fix
    fixed = runs(2, LoRA_Rank=["8", "-"], Learning_Rate=["1e-4", "1e-5"], Method=["LoRA", "full"])
    plan = planned(summary(table=fixed.replace("run_2", name), training=training))
    assert [(run.value("custom_recipe"), run.value("lora_rank")) for run in plan.runs] == [
        (None, 8), ("full_finetune_single_device", None),
    ]  # fmt: skip


def test_a_run_of_the_yaml_form_named_after_full_fine_tuning_needs_a_recipe() -> None:
    text = """\
experiment: {name: sweep, dir: /lab/sweep}
controls: {epochs: 2, batch_size: 4}
models: {base: [{name: Llama-3.2-1B-Instruct, path: /m/Llama-3.2-1B-Instruct}]}
data: {training: {path: data/words.json}}
runs:
  - {name: lora, type: fine-tuned, model: Llama-3.2-1B-Instruct, parameters: {lora_rank: 8, lr: 1e-4}}
  - {name: full_ft, type: fine-tuned, model: Llama-3.2-1B-Instruct, parameters: {lr: 1e-5}}
"""
    local = (LOCAL, local_md())
    (found,) = refusal(parse_experiment, ("experiment_summary.yaml", text), local, lambda _: True)
    assert told([found]) == [("ambiguous", "recipe", "experiment_summary.yaml", 7)]
    assert "write `recipe: full` in the parameters of full_ft" in found.fix
    fixed = text.replace("{lr: 1e-5}", "{lr: 1e-5, recipe: full}")
    last = parse_experiment(("experiment_summary.yaml", fixed), local, lambda _: True).runs[-1]
    assert last.parameters["recipe"].value == "full"


def test_an_empty_cell_of_a_method_is_named_by_its_column() -> None:
    table = runs(2, Learning_Rate=["1e-4", "1e-5"], LoRA_Rank=["8", "-"], Method=["LoRA", "-"])
    found = error_of(summary(table=table.replace("run_2", "full_ft")))
    assert "write `full` in the column 'Method' (line 7)" in found.fix


def test_if_all_runs_are_named_after_full_fine_tuning_the_fix_is_a_line_for_all() -> None:
    table = runs(2, Learning_Rate=["1e-4", "1e-5"], LoRA_Rank=["-", "-"]).replace("run_", "full_ft_")
    found = error_of(summary(table=table))
    assert "`- **Method:** full fine-tuning` to Configuration" in found.fix
    fixed = planned(summary(table=table, training={"Method": "full fine-tuning"}))
    assert {run.value("custom_recipe") for run in fixed.runs} == {"full_finetune_single_device"}


@pytest.mark.parametrize(
    ("name", "ranks"), [("full_data", ["8", "-"]), ("full_context_8k", ["8", "-"]), ("full", ["-", "-"]),
                        ("fuller", ["8", "-"]), ("lora_full", ["8", "-"]), ("full", ["8", "16"])]
)  # fmt: skip
def test_the_word_full_may_be_about_something_else(name: str, ranks: list[str]) -> None:
    table = runs(2, LoRA_Rank=ranks, Learning_Rate=["1e-4", "1e-5"]).replace("run_2", name)
    assert planned(summary(table=table, training={"LoRA rank": "8"} if "-" in ranks else {})).runs[1].value("lora_rank")


def test_a_model_with_full_fine_tuning_behind_it_needs_a_column_of_methods() -> None:
    models = [MODEL, f"{MODEL} (full fine-tuning)"]
    ranks, lrs = ["8", "-"], ["1e-4", "1e-5"]
    found = error_of(summary(table=runs(2, Model=models, LoRA_Rank=ranks, Learning_Rate=lrs)))
    assert told([found]) == [("ambiguous", "recipe", "experiment_summary.md", 7)]
    table = runs(2, Model=models, Method=["LoRA", "full"], LoRA_Rank=ranks, Learning_Rate=lrs)
    plan = planned(summary(table=table))
    assert [run.value("lora_rank") for run in plan.runs] == [8, None]


@pytest.mark.parametrize("label", ["Adapter", "Adapters", "Use adapter"])
def test_a_column_about_adapters_is_not_ignored(label: str) -> None:
    table = runs(2, Kind=["yes", "no"], Seed=["1", "2"]).replace("Kind", label)
    found = error_of(summary(table=table))
    assert told([found]) == [("misspelt-field", label, "experiment_summary.md", 4)]


@pytest.mark.parametrize(
    ("title", "is_said"), [("# full_finetuning_sweep", True), ("# Full fine-tuning of Llama", True),
                           ("# lora_vs_full_finetuning", False), ("# full_sweep", False)]
)  # fmt: skip
def test_a_title_that_says_full_fine_tuning_is_a_warning_if_all_runs_use_lora(title: str, is_said: bool) -> None:
    found = [each.line for each in planned(summary(title=title)).warnings if each.code == "name-mismatch"]
    assert found == ([1] if is_said else [])
    full = summary(title=title, table=runs(1, LoRA_Rank=["-"]), training={"Method": "full fine-tuning"})
    assert "name-mismatch" not in {each.code for each in planned(full).warnings}


def test_a_name_after_full_fine_tuning_beside_a_rank_is_a_warning() -> None:
    plan = planned(summary(table=runs(2, LoRA_Rank=["8", "16"]).replace("run_2", "full_finetune")))
    found = [each for each in plan.warnings if each.code == "name-mismatch"]
    assert [(each.field, each.line, each.severity) for each in found] == [("recipe", 7, "warning")]


def test_a_column_of_methods_is_recognized_under_any_header() -> None:
    table = runs(2, Seed=["1", "2"], Adapter=["LoRA", "LoRA (4-bit)"])
    assert told([error_of(summary(table=table))]) == [("unsupported-setting", "recipe", "experiment_summary.md", 7)]
    assert planned(summary(table=table.replace(" (4-bit)", ""))).warnings == ()


@pytest.mark.parametrize("text", ["# qlora_sweep", None])
def test_a_name_that_contains_a_different_technique_is_a_warning(text: str | None) -> None:
    document = (
        summary(title=text) if text else summary(table=runs(2, LoRA_Rank=["8", "16"]).replace("run_1", "dora_r8"))
    )
    (warning,) = planned(document).warnings
    assert (warning.code, warning.severity, warning.line) == ("name-mismatch", "warning", 1 if text else 6)


@pytest.mark.parametrize(
    "line", ["Method: QLoRA", "Recipe: full", "Quantization: 4-bit", "Target modules: q_proj", "Use DoRA: yes"]
)
def test_a_method_in_claude_local_md_is_refused(line: str) -> None:
    local = local_md() + f"- {line}\n"
    assert told([error_of(summary(), local)]) == [("misspelt-field", line.split(":", maxsplit=1)[0], LOCAL, 6)]


@pytest.mark.parametrize("line", ["Method: LoRA", "Quantization: none", "Use DoRA: no"])
def test_claude_local_md_may_confirm_the_plan(line: str) -> None:
    assert planned(summary(), local_md() + f"- {line}\n").warnings == ()


@pytest.mark.parametrize("text", ["x" + " " * 20_000 + "y", "LoRA " * 4_000, "1 (" * 7_000, " " * 20_000 + "x"])
def test_long_texts_are_read_quickly(text: str) -> None:
    """Guard against a pattern that tried each of many spaces and took minutes; the suite's time limit bounds it."""
    for label in ("Method", "GPUs", "Nodes", "Batch size", "Target modules", "W&B", "LR scheduler"):
        with contextlib.suppress(NotHonoured):
            compound.parts(label, SourceText(text, 1, "Configuration"))
    compound.asked_of("Other", text)


UNTRAINED = ["none", "(none)", "none (base model)", "No fine-tuning", "base model", "zero-shot", "untrained", "off"]


def with_method(method: str, *, rank: str = "-", rate: str = "-", kind: str = "") -> str:
    header = ["Run Name", "Model", "LoRA Rank", "Learning Rate", "Method", *(["Type"] if kind else [])]
    first = ["r0", MODEL, "8", "1e-4", "LoRA", *(["Fine-tuned"] if kind else [])]
    return summary(table=table(header, [first, ["r1", MODEL, rank, rate, method, *([kind] if kind else [])]]))


@pytest.mark.parametrize("method", spread(UNTRAINED, every=2))
@pytest.mark.parametrize(("rank", "rate", "kind"), [("8", "1e-4", ""), ("-", "1e-4", ""), ("-", "-", "Fine-tuned")])
def test_a_run_with_settings_may_not_have_a_method_of_no_training(method: str, rank: str, rate: str, kind: str) -> None:
    found = error_of(with_method(method, rank=rank, rate=rate, kind=kind))
    assert (found.code, found.field, found.line, found.actual) == ("unsupported-setting", "recipe", 7, method)
    assert "`Control`" in found.fix
    assert ("`-`" in found.fix) == (not kind)


@pytest.mark.parametrize("method", spread(UNTRAINED, every=2))
@pytest.mark.parametrize("kind", ["", "Control"])
def test_a_row_without_settings_and_without_a_method_is_a_control(method: str, kind: str) -> None:
    experiment = parsed(with_method(method, kind=kind))
    assert [run.type for run in experiment.runs] == ["fine-tuned", "control"]
    assert [each.field for each in experiment.warnings if each.line == 7] == []


@pytest.mark.parametrize("method", ["-", "n/a", ""])
def test_a_run_with_settings_and_without_a_method_uses_lora(method: str) -> None:
    runs_of = planned(with_method(method, rank="16", rate="1e-4")).runs
    assert [run.value("lora_rank") for run in runs_of] == [8, 16]

"""Notes of runs, and sentences: statements about the training are compared with the plan, mentions are not."""

import re
from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding
from scaffold_torchtune.parse import free_text
from scaffold_torchtune.parse.free_text import Named
from support.documents import parsed, planned, refusal, runs, summary

MEANT = [
    "use DoRA here", "this one with DPO", "QLoRA", "4-bit", "QLoRA run", "with DPO", "quantized base (nf4)",
    "uses SGD optimizer", "train in fp16", "DoRA!", "needs early stopping", "linear decay", "attention only",
    "train only the last 4 layers", "use QLoRA instead of LoRA", "Same as rank8 but with DoRA", "trained with DPO",
    "8-bit Adam", "fits 16 GB; use QLoRA", "main run, quantized to 8 bit", "constant learning rate",
    "DPO on top of it", "LoRA+DPO",
]  # fmt: skip
MENTIONED = [
    "unlike DoRA", "compare to QLoRA", "baseline for the QLoRA paper", "QLoRA later", "DoRA next time", "no DoRA",
    "same as QLoRA run from May", "maybe try DPO", "cf. QLoRA", "beats QLoRA", "without quantization", "vs DoRA",
    "QLoRA baseline", "best so far", "main run", "fits 16 GB", "LoRA vs QLoRA", "is QLoRA needed?",
    "previously with DPO", "4-bit was worse", "should match QLoRA", "not QLoRA", "don't use DPO", "8 GPUs were busy",
    "Dettmers et al. use QLoRA", "quantization: off", "see the DPO paper",
    "repeat of run 3", "8 bits per word in the data", "longest prompts", "",
]  # fmt: skip


@pytest.mark.parametrize("text", MEANT)
def test_a_note_states_a_different_training(text: str) -> None:
    assert free_text.in_note(text).other


@pytest.mark.parametrize("text", MENTIONED)
def test_a_note_may_mention_a_different_training(text: str) -> None:
    assert free_text.in_note(text) in {Named(), Named(recipe="lora")}


SAID = [
    "We fine-tune with QLoRA (4-bit).", "We train all models with DPO after SFT.", "All runs use DoRA.",
    "The base model is loaded in 4-bit.", "Models are trained with QLoRA.", "This is a QLoRA sweep over ranks.",
    "A DPO experiment on words.", "QLoRA fine-tuning of Llama 3.2 on capitalization.", "Training uses fp16.",
    "Fine-tune Llama with QLoRA to capitalize words.", "Goal: fine-tune the model using DPO.",
    "We use the SGD optimizer with a linear schedule.", "We apply LoRA only to the last 4 layers.",
    "In this experiment, we use rsLoRA with rank 16.", "To save memory, we use QLoRA.", "Approach: QLoRA fine-tuning",
    "Optimizer: SGD", "We do not use DPO. We use QLoRA.", "Training will be done with 4-bit quantization.",
    "4 runs with QLoRA", "Trained with DoRA.", "Runs: 2 fine-tuned with QLoRA", "Table 1: QLoRA runs.",
    "2x2 design; all runs on two nodes with 8 GPUs each.", "QLoRA rank sweep on capitalization",
    "We freeze all layers but the last 4 layers.", "All models in fp16.", "Each run with 4-bit weights.",
    "We fine-tune with QLoRA (Dettmers et al., 2023).", "All runs use DoRA [@liu2024dora].",
    "All runs use DoRA, as in the paper.", "We use DPO (Rafailov et al. 2023) after SFT.",
    "Each model is fine-tuned in half precision.", "Quantization: 4-bit",
]  # fmt: skip
UNSAID = [
    "Unlike DoRA, LoRA keeps magnitudes.", "QLoRA is left for later.", "We use LoRA rather than QLoRA.",
    "We compare LoRA with QLoRA.", "Dettmers et al. use QLoRA.", "How does LoRA compare with full fine-tuning?",
    "QLoRA would save memory.", "In future work we use DPO.", "We do not use quantization.",
    "QLoRA uses 4-bit weights.",
    "LoRA is cheaper than full fine-tuning.", "We fine-tune with LoRA, not QLoRA.", "Previous runs used QLoRA.",
    "Quantization is out of scope.", "We test whether DPO helps.", "Many labs train with QLoRA.",
    "Our models are small, so quantization is not needed.", "The runs do without 4-bit.",
    "We hypothesize that DoRA is better.", "The 8-bit inference of the last run was slow.",
    "We use LoRA. Full fine-tuning needs four GPUs.", "We train LoRA adapters of Llama (no quantization).",
    "Reward models are not part of this.", "We never use DPO.", "We chose LoRA over DoRA, as it is simpler.",
    "The words are 4 to 8 bits long in the data.", "Does quantization hurt capitalization?",
]  # fmt: skip


RIGHT = [
    "This experiment asks how LoRA rank changes capitalization accuracy on Llama-3.2-1B-Instruct.",
    "We fine-tune Llama-3.2-1B-Instruct with LoRA at two ranks and evaluate with inspect-ai on the test split.",
    "Full fine-tuning is used as a reference in the literature; we do not run it here.",
    "The base model is evaluated as a control. It is not fine-tuned.",
    "LoRA freezes the base weights and trains low-rank matrices.",
    "We use bf16 (no quantization), AdamW and torchtune's cosine schedule with warmup.",
    "We train for two epochs because the earlier experiment overfitted after three epochs.",
    "Data were generated with an 8-bit quantized model.",
    "Evaluation uses greedy decoding in fp16.",
    "Early stopping is not used.",
    "Runs are trained in bf16, i.e. half the memory of fp32.",
    "With linear decay the loss was worse in our last experiment.",
    "Adam and Ada train the models.",
    "The prompts are formatted with the instruct template. DPO data are not used.",
    "The method is LoRA, as implemented in torchtune 0.6.1 (no DoRA, no quantization).",
    "Linear probes are trained on the frozen layers afterwards.",
    "All runs use LoRA on attention and MLP.",
    "All runs fit on one 80GB GPU. Each run takes about 10 minutes.",
    "We run on della's gpu partition.",
    "We use LoRA rank 8 and 16 (alpha = 2 x rank), lr 1e-5, batch size 4.",
    "We fine-tune Llama-3.2-1B-Instruct on 400 word pairs with ranks 8 and 16, a learning rate of 1e-5 and 2 epochs.",
    "Design: 2 ranks, one seed. A 2x1 grid: rank in {8, 16}, lr = 1e-5. We plan two runs with ranks 8 and 16.",
    "Runs are logged to W&B (offline) and synced afterwards. W&B is offline as compute nodes have no internet.",
    "The effective batch size is 4. Batch size 4 fits on one GPU; batch size 16 does not.",
    "Evaluation is repeated with three seeds; we evaluate with 5 seeds of the sampler.",
    "We train on 400 samples for 2 epochs, i.e. 200 steps. We keep 100 warm-up steps. Prompts are masked in the loss.",
    "Our hypothesis: rank 64 would be better. In the pilot with rank 64 and 5 epochs we saw overfitting.",
    "LoRA (r = 8 and 16, alpha = 2r) is trained with AdamW (lr 1e-5) and cosine decay to zero.",
    "The model has 1B parameters and a context of 128k tokens. Max sequence length is 2048 tokens.",
    "Data: 400 pairs; 80% train, 20% test, seed 42 for the split. 4 words per sample.",
    "Note that full-parameter training would need 4 GPUs. The base model (control) is evaluated without LoRA.",
    "Learning rates above 1e-4 diverged in pilot runs. Seeds are fixed. The two ranks span a factor of two.",
]
"""Texts in the overview of experiments whose runs match them."""


@pytest.mark.parametrize("text", RIGHT)
def test_an_overview_that_matches_the_runs_has_no_warning(text: str) -> None:
    assert warned(summary(extra=f"## Overview\n\n{text}\n")) == []


@pytest.mark.parametrize("text", SAID)
def test_a_sentence_states_a_different_training(text: str) -> None:
    assert free_text.in_sentences(text).other


@pytest.mark.parametrize("text", UNSAID)
def test_a_sentence_may_mention_a_training_that_is_not_used(text: str) -> None:
    found = free_text.in_sentences(text)
    assert (found.other, found.recipe == "full") == (None, False)


@pytest.mark.parametrize(
    ("text", "recipe"),
    [
        ("We use full fine-tuning.", "full"), ("Full fine-tuning of Llama 3.2 1B on words.", "full"),
        ("All weights are updated.", "full"), ("We train LoRA adapters.", "lora"), ("A LoRA sweep", "lora"),
        ("We study capitalization.", None), ("Full fine-tuning is expensive.", None),
    ],
)  # fmt: skip
def test_a_sentence_states_a_supported_method(text: str, recipe: str | None) -> None:
    assert free_text.in_sentences(text) == Named(recipe=recipe)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("use lr 3e-4 here", [("lr", "3e-4")]), ("lr=3e-4", [("lr", "3e-4")]), ("5 epochs", [("epochs", "5")]),
        ("train for 5 epochs", [("epochs", "5")]), ("batch size 8 because of OOM", [("batch_size", "8")]),
        ("r=32, alpha 64", [("lora_rank", "32"), ("lora_alpha", "64")]), ("on 2 GPUs", [("gpus", "2")]),
        ("rank 16 did best", []), ("3 epochs was enough", []), ("takes 2 GPUs hours", []), ("lr as in run 3", []),
    ],
)  # fmt: skip
def test_settings_in_a_note_are_read_only_if_they_form_a_separate_part(
    text: str, settings: list[tuple[str, str]]
) -> None:
    assert list(free_text.settings_in_note(text)) == settings


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("We train for 3 epochs with a learning rate of 2e-4 and batch size 16.",
         [("epochs", "3"), ("learning rate", "2e-4"), ("batch size", "16")]),
        ("All runs use lora rank 8 or 16", []), ("We train for 1, 2 and 4 epochs", []),
        ("Each run uses 4 GPUs.", [("GPUs", "4")]), ("The paper uses a batch size of 512.", []),
        ("We use fewer than 3 epochs", []), ("A batch size of 16 would not fit.", []),
        ("We train for three epochs.", [("epochs", "3")]), ("We use lr 2 × 10⁻⁴.", [("lr", "2 × 10⁻⁴")]),
        ("We train with an effective batch size of 64.", [("effective batch size", "64")]),
        ("All runs use a global batch of 4 x 8 = 32.", [("global batch", "32")]),
        ("We use an effective (global) batch size of 64.", [("effective batch size", "64")]),
        ("We use a batch size of 64 across all GPUs.", [("effective batch size", "64")]),
        ("We train with a batch size of 64 (effective).", [("effective batch size", "64")]),
        ("We use a batch size of 4 x 8.", []), ("We use LoRA rank 8 (alpha = 2 x rank).", [("LoRA rank", "8")]),
        ("We train with gradient accumulation of 8 steps.", [("gradient accumulation", "8")]),
    ],
)  # fmt: skip
def test_settings_in_sentences(text: str, settings: list[tuple[str, str]]) -> None:
    assert [(each.label, *each.values) for each in free_text.settings_in_sentences(text)] == settings


def errors(text: str) -> list[tuple[str, str | None, int | None]]:
    return [(p.code, p.field, p.line) for p in refusal(parsed, text) if p.severity is Severity.ERROR]


def warned(text: str) -> list[Finding]:
    return [w for w in planned(text).warnings if w.severity is Severity.WARNING]


@pytest.mark.parametrize("column", ["Notes", "Comment", "Remarks", "Description", "Role", "Purpose", "Remark"])
def test_a_note_is_refused_at_its_row_and_only_in_fine_tuned_rows(column: str) -> None:
    notes: dict[str, Any] = {column: ["main", "use DoRA here"]}
    table = runs(2, controls=1, Seed=["1", "2"], **notes)
    assert errors(summary(table=table)) == [("unsupported-setting", column.lower(), 7)]
    notes = {column: ["main", "again"]}
    control = runs(2, controls=1, Seed=["1", "2"], **notes).splitlines()
    control[-1] = control[-1].replace("| - | Control", "| judged by a 4-bit model | Control")
    assert warned(summary(table="\n".join(control) + "\n")) == []


def test_a_column_of_unknown_texts_is_read_as_notes() -> None:
    table = runs(2, Seed=["1", "2"], Why=["as a baseline for QLoRA", "-"])
    assert [w.code for w in warned(summary(table=table))] == ["unused-column"]
    assert ("unsupported-setting", "why", 6) in errors(summary(table=table.replace("as a baseline for", "now use")))


def test_a_note_may_not_contradict_its_row() -> None:
    table = runs(3, Seed=["1", "2", "3"], Notes=["full fine-tuning", "lr 1e-5, rank 8", "use lr 3e-4 here"])
    assert errors(summary(table=table)) == [("ambiguous", "recipe", 6), ("ambiguous", "lr", 8)]
    table = runs(2, Seed=["1", "2"], Notes=["alpha 16", "alpha 32, seed 2"])
    assert errors(summary(table=table)) == [("ambiguous", "lora_alpha", 7)]
    full = runs(1, LoRA_Rank=["-"], Recipe=["full"], Notes=["LoRA"])
    assert errors(summary(table=full)) == [("ambiguous", "recipe", 6)]


@pytest.mark.parametrize("title", ["Overview", "Objective", "Notes", "Experimental plan", "Introduction"])
@pytest.mark.parametrize("mark", ["", "- "])
def test_a_section_may_not_state_a_different_method(title: str, mark: str) -> None:
    text = summary(extra=f"## {title}\n\n{mark}We fine-tune with QLoRA\n(4-bit) to save memory.")
    (found,) = errors(text)
    assert found == ("unsupported-setting", "recipe", text.splitlines().index(f"{mark}We fine-tune with QLoRA") + 1)
    assert warned(summary(extra=f"## {title}\n\n{mark}Unlike QLoRA, we keep bf16.\n")) == []


@pytest.mark.parametrize(
    "title",
    ["Related work", "Background", "Future work", "Evaluation", "Previous results", "References", "Limitations"],
)
def test_sections_about_other_work_may_mention_any_method(title: str) -> None:
    assert warned(summary(extra=f"## {title}\n\nWe fine-tune with QLoRA.\n")) == []


def test_a_sentence_may_not_state_a_method_that_no_run_uses() -> None:
    said = "## Overview\n\nWe use full fine-tuning for all runs."
    (found,) = errors(summary(extra=said))
    assert found[:2] == ("ambiguous", "recipe")
    full = runs(1, LoRA_Rank=["-"], Recipe=["full"])
    assert warned(summary(table=full, extra=said)) == []
    both = runs(2, LoRA_Rank=["8", "-"], Recipe=["LoRA", "full"])
    assert warned(summary(table=both, extra=said)) == []


def test_a_stated_value_that_no_run_has_is_a_warning() -> None:
    text = summary(extra="## Overview\n\nWe train for 3 epochs with lora rank 8.")
    (found,) = warned(text)
    assert (found.code, found.field, found.actual) == ("levels-differ", "epochs", 3)
    assert warned(summary(extra="## Overview\n\nWe train for 2 epochs with lora rank 16.")) == []


@pytest.mark.parametrize("said", ["QLoRA with NF4.", "- LoRA + DPO", "Two-stage: first SFT, then DPO."])
def test_a_section_about_the_method_states_it(said: str) -> None:
    (found,) = errors(summary(extra=f"## Method\n\n{said}\n"))
    assert found[:2] == ("unsupported-setting", "recipe")
    assert warned(summary(extra="## Method\n\nLoRA adapters, trained on words. No quantization.\n")) == []


def test_prompts_and_data_are_not_read_as_statements_about_the_training() -> None:
    text = summary(
        training={"System prompt": '"We train with QLoRA."'}, dataset="`/data/words.json`\n- Made by models trained"
        " with DPO.", extra="## Evaluation\n\nThe judge is loaded in 4-bit.",
    )  # fmt: skip
    assert warned(text) == []


@pytest.mark.parametrize(
    "text", ["we " * 700, "use QLoRA " * 300, "the " * 600 + "QLoRA", "- " * 1000, "lr 1e-4 " * 250]
)
def test_long_texts_are_read_quickly(text: str) -> None:
    free_text.in_note(text)
    free_text.in_sentences(text)
    list(free_text.settings_in_note(text))
    list(free_text.settings_in_sentences(text))


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("Three seeds per condition.", [("seed", (), 3)]), ("We compare two ranks with 5 random seeds.",
         [("seed", (), 5), ("rank", (), 2)]), ("Each condition is repeated with several seeds.", [("seed", (), -1)]),
        ("Four replicates of each run.", [("seed", (), 4)]), ("A single seed is used.", [("seed", (), 1)]),
        ("At least 3 seeds are needed.", []), ("The paper has 5 seeds.", []), ("3 to 5 seeds", []),
        ("We sweep LoRA rank in {4, 8, 16} and learning rates 1e-5 and 5e-5.",
         [("lora rank", ("4", "8", "16"), 0), ("learning rate", ("1e-5", "5e-5"), 0)]),
        ("We use lr 1e-5, 3 epochs.", []), ("Earlier runs had three seeds.", []), ("seeds 1, 2 and 3", [
            ("seed", ("1", "2", "3"), 0)]), ("unlike ranks 8 and 16", []), ("one learning rate", []),
    ],
)  # fmt: skip
def test_levels_listed_or_counted_in_sentences(text: str, levels: list[tuple[str, tuple[str, ...], int]]) -> None:
    found = [(each.label, each.values, each.number) for each in free_text.levels_in_sentences(text)]
    assert sorted(found) == sorted(levels)


@pytest.mark.parametrize(
    ("text", "modes"),
    [
        ("Runs log online to wandb.", ["online"]), ("W&B offline", ["offline"]),
        ("Weights & Biases: online", ["online"]),
        ("We log to W&B in online mode.", ["online"]), ("W&B logging is disabled.", ["disabled"]),
        ("Metrics are tracked with W&B (online).", ["online"]), ("We do not use W&B.", ["disabled"]),
        ("No wandb logging.", ["disabled"]), ("Logging: offline", ["offline"]), ("Metric logging: online", ["online"]),
        ("See the W&B dashboard online.", []), ("Compute nodes are offline, so W&B cannot be reached.", []),
        ("Earlier runs logged online to W&B.", []), ("We log to W&B.", []), ("Results are online.", []),
        ("If W&B runs online, it hangs.", []), ("Runs are not logged to W&B.", ["disabled"]),
    ],
)  # fmt: skip
def test_wandb_modes_in_sentences(text: str, modes: list[str]) -> None:
    assert list(free_text.modes_in_sentences(text)) == modes


def overview(text: str, table: str | None = None, **training: str) -> str:
    return summary(table=table, training=dict(training), extra=f"## Overview\n\n{text}")


@pytest.mark.parametrize(
    "said",
    [
        "We train with an effective batch size of 64.", "All runs have a global batch of 4 x 16 = 64.",
        "The models are trained with a batch size of 64 (effective).", "- Each run uses a total batch size of 64",
    ],
)  # fmt: skip
def test_a_sentence_with_a_different_effective_batch_size_is_refused(said: str) -> None:
    (found,) = errors(overview(said))
    assert found[:2] == ("ambiguous", "effective_batch_size")
    steps = {"Gradient accumulation steps": "16"}
    assert warned(overview(said, **steps)) == []
    assert warned(overview(said, **{"Gradient accumulation steps": "8", "GPUs": "2"})) == []
    table = runs(2, LoRA_Rank=["8", "16"], Batch_Size=["64", "32"])
    of_all = ["levels-differ"] if re.search("All runs|Each run", said) else []
    assert [w.code for w in warned(overview(said, table).replace("- **Batch size:** 4\n", ""))] == of_all


def test_an_effective_batch_size_in_a_note_applies_to_its_run() -> None:
    table = runs(2, Seed=["1", "2"], Notes=["effective batch size 4", "effective batch size 8"])
    assert errors(summary(table=table)) == [("ambiguous", "effective_batch_size", 7)]


@pytest.mark.parametrize(
    ("said", "field", "is_so"),
    [
        ("Runs log online to wandb.", "wandb_mode", {"W&B mode": "online"}),
        ("No W&B logging.", "wandb_mode", {"W&B mode": "disabled"}),
        ("We train with gradient accumulation of 8 steps.", "gradient_accumulation_steps", {"Grad accum": "8"}),
        ("We train for nine epochs.", "epochs", {"Epochs": "9"}),
        ("We use learning rates 1e-5, 3e-5 and 9e-5.", "lr", None), ("We sweep rank in {8, 32}.", "lora_rank", None),
        ("Three seeds per condition.", "seed", None), ("We run four learning rates.", "lr", None),
        ("All runs use rank 8.", "lora_rank", None),
    ],
)  # fmt: skip
def test_a_statement_that_fits_no_run_is_a_warning(said: str, field: str, is_so: dict[str, str] | None) -> None:
    assert [(w.code, w.field) for w in warned(overview(said))] == [("levels-differ", field)]
    if is_so is not None:
        assert warned(overview(said, **is_so)) == []


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("- **Logging:** W&B online", "wandb_mode"), ("- **Logging:** online", "wandb_mode"),
        ("- **W&B:** online", "wandb_mode"),
        ("- **Seeds:** 3", "seed"), ("- **Number of seeds:** 3", "seed"), ("- **Replicates:** 4", "seed"),
        ("- **Runs per condition:** 2", "seed"), ("- **Seeds per cell:** five", "seed"), ("| Seeds | 3 |", "seed"),
        ("- **Schedule:** 9 epochs", "epochs"), ("- **Budget:** batch size 8, 2 epochs", "batch_size"),
        ("- **LoRA:** r=32", "lora_rank"),
    ],
)  # fmt: skip
def test_a_labelled_line_that_contradicts_the_runs_is_refused(line: str, field: str) -> None:
    text = overview(line)
    (found,) = [p for p in refusal(parsed, text) if p.severity is Severity.ERROR]
    assert (found.field, found.line) == (field, text.splitlines().index(line) + 1)
    assert found.code in {"ambiguous", "misspelt-field"}


SEEDS = runs(4, LoRA_Rank=["8", "8", "16", "16"], Seed=["1", "2", "1", "2"])
OWN_SEEDS = runs(4, LoRA_Rank=["8", "8", "16", "16"], Seed=["1", "2", "3", "4"])


@pytest.mark.parametrize("table", [SEEDS, OWN_SEEDS])
@pytest.mark.parametrize(
    "said",
    [
        "Two seeds per condition.", "- **Seeds:** 2", "- **Replicates:** 2", "Several seeds each.", "2 ranks x 2 seeds",
        "- **Learning rate:** 1e-5", "Ranks 8 and 16.", "- **Ranks:** 8, 16", "- **Runs per condition:** 2",
        "We compare two ranks.",
    ],
)  # fmt: skip
def test_a_statement_that_matches_the_runs_has_no_warning(table: str, said: str) -> None:
    assert warned(overview(said, table)) == []


@pytest.mark.parametrize(("said", "code"), [("Seeds: 2", None), ("Seeds: 3", "ambiguous"), ("Seeds: 1, 2", None),
                                            ("Seeds: 1, 5", "ambiguous"), ("Ranks: 8, 16", None),
                                            ("Learning rates: 1e-5, 2e-5", "ambiguous")])  # fmt: skip
def test_levels_in_configuration_must_be_those_of_the_runs(said: str, code: str | None) -> None:
    label, value = said.split(": ")
    text = summary(table=SEEDS, training={label: value})
    if code is None:
        assert warned(text) == []
    else:
        assert [found[0] for found in errors(text)] == [code]


@pytest.mark.parametrize(
    ("said", "field", "is_so"),
    [
        ("Sequences are truncated to 512 tokens.", "max_seq_len", {"Max seq len": "512"}),
        ("Training data are packed.", "packed", {"Packed": "yes", "Max seq len": "64"}),
        ("We use no warm-up.", "num_warmup_steps", {"Warmup steps": "0"}),
        ("Gradients are clipped at 1.0.", "clip_grad_norm", {"Max grad norm": "1.0"}),
        ("We do not mask the prompt.", "train_on_input", {"Train on input": "yes"}),
        ("The loss is computed over the full sequence.", "train_on_input", {"Train on input": "yes"}),
        ("Weight decay is 0.1.", "weight_decay", {"Weight decay": "0.1"}),
        ("alpha is set to 7.", "lora_alpha", {"LoRA alpha": "7"}),
        ("LoRA rank 8, alpha 8.", "lora_alpha", {"LoRA alpha": "8"}),
        ("We train 9 full epochs.", "epochs", {"Epochs": "9"}),
        ("We make nine passes over the data.", "epochs", {"Epochs": "9"}),
        ("We use a minibatch size of 16.", "batch_size", {"Batch size": "16"}),
        ("Note: epochs = 5.", "epochs", {"Epochs": "5"}),
        ("The LR is set to 3e-4.", "lr", None), ("- **TL;DR** rank 8 vs 16, 3 seeds", "seed", None),
        ("~~We train for 2 epochs.~~ We train for 9 epochs.", "epochs", {"Epochs": "9"}),
        ("We train for at most 500 optimizer steps.", "max_steps_per_epoch", {"Max steps per epoch": "250"}),
        ("We use 10% warmup.", "warmup_ratio", None), ("Warm-up over the first 3% of steps.", "warmup_ratio", None),
        ("We keep alpha = rank.", "lora_alpha", None), ("alpha is half the rank.", "lora_alpha", None),
    ],
)  # fmt: skip
def test_a_setting_in_words_that_no_run_has_is_a_warning(said: str, field: str, is_so: dict[str, str] | None) -> None:
    assert [(w.code, w.field) for w in warned(overview(said))] == [("levels-differ", field)]
    if is_so is not None:
        assert [w.code for w in warned(overview(said, **is_so)) if w.code == "levels-differ"] == []


@pytest.mark.parametrize(
    ("said", "is_so"),
    [
        ("We apply LoRA to attention only.", {"Apply LoRA to MLP": "no"}),
        ("LoRA is applied to q_proj and v_proj only.", {"Target modules": "q_proj, v_proj"}),
        ("We train LoRA on q and v projections.", {"Target modules": "q_proj, v_proj"}),
        ("LoRA on all linear layers.", {"Target modules": "all linear"}),
    ],
)  # fmt: skip
def test_stated_lora_modules_that_no_run_uses_are_refused(said: str, is_so: dict[str, str]) -> None:
    assert {found[0] for found in errors(overview(said))} == {"ambiguous"}
    assert warned(overview(said, **is_so)) == []


def test_a_note_about_lora_modules_must_match_its_run() -> None:
    table = runs(2, Seed=["1", "2"], Apply_LoRA_to_MLP=["no", "yes"], Notes=["attention only", "main"])
    assert warned(summary(table=table)) == []
    assert errors(summary(table=table.replace("main", "attention only")))[0][:2] == ("unsupported-setting", "notes")


@pytest.mark.parametrize(
    "said",
    [
        "Adapters: QDoRA", "We adopt QLoRA-style training.", "We perform continued pretraining on raw text.",
        "Objective: DPO on preference pairs", "The optimizer is Adafactor.", "Mixed precision fp16.",
        "We use a cosine schedule to 10% of the peak.", "We apply LoRA to the embeddings as well.",
        "- **Training recipe:** lora_dpo_single_device", "We train with VeRA adapters.",
    ],
)  # fmt: skip
def test_an_unsupported_training_in_other_words_is_refused(said: str) -> None:
    assert [found[0] for found in errors(overview(said))] == ["unsupported-setting"]


@pytest.mark.parametrize("said", ["We use full-parameter SFT.", "We train without LoRA.", "We do not use adapters."])
def test_full_fine_tuning_in_other_words_is_recognized(said: str) -> None:
    assert [found[:2] for found in errors(overview(said))] == [("ambiguous", "recipe")]
    assert warned(overview(said, runs(1, LoRA_Rank=["-"], Recipe=["full"]))) == []

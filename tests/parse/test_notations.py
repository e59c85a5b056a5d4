"""Notations in which people write values: read if they are unambiguous, else refused."""

import pytest

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.parse import values
from scaffold_torchtune.parse.drafts import SourceText
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import PARAMETERS, by_label
from scaffold_torchtune.torchtune_facts import find_model, known_models, model_by_spelling
from support.documents import MODEL, local_md, parsed, planned, runs, summary

READ: list[tuple[str, list[str], Scalar, str]] = [
    ("lr", ["2e−5", "2e–5", "2E-5", "2.e-5", "2 × 10⁻⁵", "2*10^-5", "2 × 10<sup>-5</sup>", "2e‑5",
            r"$2 \times 10^{-5}$", "2\u2009×\u200910⁻⁵"], 2e-5, ""),
    ("lr", ["10^-4", "10⁻⁴", "10**-4", "10^{-4}", "1e-4"], 1e-4, ""),
    ("lr", ["1e-4†", "1e-4 †"], 1e-4, "†"), ("lr", ["1e-4 [^1]", "1e-4[^1]"], 1e-4, "[^1]"),
    ("lr", ["1e-4²"], 1e-4, "²"),
    ("lr", ["5e-5 (default)"], 5e-5, "(default)"), ("lr", ["5e-5* (see below)"], 5e-5, "* (see below)"),
    ("lora_dropout", ["10%", "10 %", "10 percent", "0.1", ".1"], 0.1, ""), ("weight_decay", ["0.5%"], 0.005, ""),
    ("epochs", ["3 epochs", "3 epoch", "3"], 3, ""), ("epochs", ["3¹"], 3, "¹"), ("epochs", ["3*"], 3, "*"),
    ("epochs", ["three epochs", "Three epochs"], 3, ""), ("gpus", ["two GPUs", "2 per run", "2 GPUs per job"], 2, ""),
    ("gpus", ["two A100s"], 2, "A100s"), ("time", ["one hour", "One hour"], "1:00:00", ""),
    ("weight_decay", ["none", "off", "no", "zero", "`none`"], 0.0, ""), ("num_warmup_steps", ["none", "no"], 0, ""),
    ("lr", [r"$2\times10^{-5}$", r"$2\times 10^{-5}$", r"$2 \cdot 10^{-5}$"], 2e-5, ""),
    ("epochs", ["3<sup>a</sup>"], 3, "<sup>a</sup>"), ("epochs", ["3,000"], 3000, ""),
    ("batch_size", ["4 per device", "4 samples", "4/GPU", "4 samples per GPU"], 4, ""),
    ("batch_size", ["1,024"], 1024, ""),
    ("max_seq_len", ["2,048", "2\u202f048", "2\u00a0048 tokens", "2,048 tokens", "2048-token"], 2048, ""),
    ("max_seq_len", ["8,192"], 8192, ""), ("num_warmup_steps", ["1,000 steps", "1000 warm-up steps"], 1000, ""),
    ("training_samples", ["12,345 samples", "12,345 rows"], 12_345, ""),
    ("mem", ["64GB", "64 GB", "64G", "64 GiB", "64 gb", "64g", "64 GB RAM", "64 gigabytes"], "64G", ""),
    ("mem", ["64 GB per node"], "64G", ""),
    ("time", ["36 hours", "36h", "36 hrs", "1 day 12 hours", "1d12h", "1.5 days", "36:00 h"], "36:00:00", ""),
    ("time", ["30 min", "30m", "30 minutes", "0.5 h", "1800 s"], "0:30:00", ""),
    ("time", ["1h30m", "1 h 30 min", "1 hour and 30 minutes", "90 min", "1h30", "1:30 hours"], "1:30:00", ""),
    ("time", ["1 day"], "24:00:00", ""), ("time", ["12 hours (default)"], "12:00:00", "(default)"),
    ("gpus", ["4 GPUs", "4 gpus", "4", "4 GPU"], 4, ""),
    ("gpus", ["2 x A100", "2×A100", "A100 x 2", "2 A100"], 2, "A100"),
    ("gpus", ["2 x A100 80GB"], 2, "A100 80GB"), ("gpus", ["1 × 80GB GPU"], 1, "80GB"),
    ("cpus_per_task", ["8 cores", "8 CPUs", "8 CPU cores"], 8, ""),
    ("model", [f"meta-llama/{MODEL}", "Llama 3.2 1B Instruct", "Llama3.2-1B-Instruct", "unsloth/Llama-3.2-1B-Instruct",
               "Llama-3.2-1B (Instruct)", "LLAMA 3.2 1B INSTRUCT"], MODEL, ""),
    ("model", ["qwen/Qwen2.5-7B", "Qwen 2.5 7B"], "Qwen2.5-7B", ""), ("model", [f"{MODEL}†"], MODEL, "†"),
]  # fmt: skip
REFUSED: dict[str, list[str]] = {
    "lr": ["２e-5", "1e－5", "1e-５",
           "1e-5.", "~1e-5", "≈1e-5", "about 1e-5", "1e-5-5e-5", "1e-5–5e-5", "1e-5 to 5e-5", "0,0001", "10%", "10²",
           "<1e-4",
           "1e-5+", "1.", "2 x 105", "1×10-5"],
    "epochs": ["３", "３ epochs",
               "~3", "3-5", "3–5", "3 to 5", "3²", "2⁴", "3 runs", "3+", "≥3", "1,234", "1,23", "03", "3k",
               "three-ish", "three", "8 16"],
    "lora_rank": ["16,128", "8 16", "8/16", "8 units"],
    "max_seq_len": ["2k", "2K tokens", "2.048", "2 048", "~2,048", "2,04", "0,048"],
    "mem": ["６４G", "６４ GB", "1.5T", "~64GB", "64 GB per GPU", "64-128 GB", "64 GB?", "sixty GB"],
    "time": ["１:00:00", "３６ hours",
             "~2h", "2-3 hours", "0 h", "2 months", "h", "30 min 1 h", "1h1h", "1 day and", "59"],
    "gpus": ["２", "２ GPUs", "２ x A100", "~2", "1-2", "2 x 4", "2 nodes", "2 x nodes", "4 GPUs per node", "x A100"],
    "model": ["google/Llama-3.2-1B", "foo/bar", "Llama 3.2 and Qwen 2.5", "1B Instruct", "Llama-3.2_1B;x"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "value", "remark"), [(n, t, v, r) for n, ts, v, r in READ for t in ts])
def test_an_unambiguous_notation_is_read(name: str, text: str, value: Scalar, remark: str) -> None:
    found = values.typed(PARAMETERS[name], SourceText(text, 1, "note"))
    assert found == (value, remark)
    assert type(found.value) is type(value)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in REFUSED.items() for text in texts])
def test_an_ambiguous_notation_is_refused(name: str, text: str) -> None:
    with pytest.raises(NotTyped):
        values.typed(PARAMETERS[name], SourceText(text, 1, "note"))


def test_notations_are_read_in_every_place_and_footnotes_are_reported() -> None:
    table = runs(1, Model=[f"meta-llama/{MODEL}"], Learning_Rate=["2e−5"], LoRA_α=["16†"])
    text = summary(
        table=table, training={"Epochs": "3 epochs", "Batch size": "4 per device", "Max sequence length": "2,048"},
        models={"Llama 3.2 1B Instruct": "`/models/x`"},
    )  # fmt: skip
    local = local_md() + "\n## SLURM Defaults\n\n- **Time**: 36 hours\n- **Memory**: 64GB\n- **GPUs**: 2 x A100\n"
    plan = planned(text, local)
    (run,) = plan.runs
    found = {
        name: run.settings[name].value for name in ("lr", "epochs", "batch_size", "max_seq_len", "time", "mem", "gpus")
    }
    assert found == {
        "lr": 2e-5, "epochs": 3, "batch_size": 4, "max_seq_len": 2048, "time": "36:00:00", "mem": "64G", "gpus": 2
    }  # fmt: skip
    assert (run.model, run.settings["lora_alpha"].value, run.settings["models_dir"].value) == (MODEL, 16, "/models")
    told = [warning.field for warning in plan.warnings if warning.code == "ignored-remark"]
    assert sorted(filter(None, told)) == ["gpus", "lora_alpha"]


@pytest.mark.parametrize("label", ["α", "LoRA α", "LoRA-α", "LoRA 𝛼", "ＬｏＲＡ alpha"])
def test_greek_alpha_is_alpha(label: str) -> None:
    found = by_label(label)
    assert found is not None
    assert found.name == "lora_alpha"


def test_every_spelling_of_a_model_finds_that_model() -> None:
    for name in known_models():
        entry = find_model(name)
        for spelling in (name, name.replace("-", " "), name.upper(), name.replace("-", "_"), f"unsloth/{name}"):
            assert model_by_spelling(spelling) is entry, spelling


@pytest.mark.parametrize(
    ("written", "text"),
    [('"Say "yes" or "no" now"', 'Say "yes" or "no" now'), ('"Say \\"hi\\""', 'Say "hi"'), ('"5\\" pipe"', '5" pipe'),
     ("'Don't'", "Don't"), ("“Say “a” and “b””", "Say “a” and “b”"), ("‘a b’", "a b"), ("„a b“", "a b"),
     ('`"Say \\"hi\\""`', 'Say "hi"'), ('"Answer "yes" or "no""', 'Answer "yes" or "no"'), ('"a\\\\b"', "a\\b"),
     ('Say \\"hi\\"', 'Say "hi"')],
)  # fmt: skip
def test_quotes_within_quotes_are_part_of_the_text(written: str, text: str) -> None:
    assert parsed(summary(training={"System prompt": written})).config["system_prompt"].value == text
    table = runs(1, System_Prompt=[written])
    assert parsed(summary(table=table)).runs[0].parameters["system_prompt"].value == text


@pytest.mark.parametrize("written", ['"yes" or "no"', '"a""b"', '"a "b" c" d', '"x', '"5" pipe"', '"a" "b"'])
def test_two_quoted_texts_are_refused_as_one_text(written: str) -> None:
    with pytest.raises(NotTyped):
        values.typed(PARAMETERS["system_prompt"], SourceText(written, 1, "note"))


@pytest.mark.parametrize(
    "text", ['"' * 20_000, '"a ' * 7_000, "1," * 10_000, "1h" * 10_000, "2 x A" * 4_000, "[^" * 10_000, "(" * 20_000]
)
def test_no_notation_is_slow_to_read(text: str) -> None:
    for name in ("lr", "epochs", "time", "mem", "gpus", "model", "dataset", "system_prompt"):
        values.value_of(PARAMETERS[name], SourceText(text, 1, "note"))

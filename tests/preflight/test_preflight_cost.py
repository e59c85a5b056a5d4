"""Estimates of the resources that runs need, and warnings if they exceed the available ones."""

import re
from datetime import timedelta
from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding
from scaffold_torchtune.models import DataFile, DataPart, DiskState
from scaffold_torchtune.preflight import check_plan
from scaffold_torchtune.preflight.training import gpu_of, need_of
from support.checkpoints import facts_of
from support.plans import DATA, LINES, SUMMARY, Changes, plan_of, run_of
from support.wording import absent

GIB = 1024**3
BASE = "/scratch/me/out/capitals"
LLAMA_8B: Changes = {"torchtune_model_name": "Llama-3.1-8B-Instruct"}
LLAMA_70B: Changes = {"torchtune_model_name": "Llama-3.3-70B-Instruct", "lora_rank": 16}


def found(code: str, *runs: Any, seen: DiskState | None = None, **more: Any) -> list[Finding]:
    return [each for each in check_plan(plan_of(*runs, **more), seen or DiskState(), {}) if each.code == code]


def test_the_estimate_counts_memory_disk_and_steps() -> None:
    """Calculate by hand: 1,235,814,400 parameters x 2 bytes; LoRA adds 663,552 x rank 8, four times 2 bytes each."""
    facts = facts_of("Llama-3.2-1B-Instruct")
    each = facts.lora_parameters(("q_proj", "v_proj", "output_proj"), mlp=True, output=False)
    assert (facts.parameters, each) == (1_235_814_400, 663_552)
    (finding,) = found("estimate", {"save_adapter_weights_only": False}, splits={DATA: {"train": 100}})
    held = (1_235_814_400 * 2 + 663_552 * 8 * 2 * 4) / GIB
    saved = (2 * (1_235_814_400 * 2 + 663_552 * 8 * 2) + 2 * 663_552 * 8 * 2) / GIB
    logits = 4 * 2048 * 128_256 * 2 / GIB
    assert finding.severity is Severity.INFO
    of_the_gpu, of_disk, steps, node = finding.message.split("; ")
    assert absent(of_the_gpu, f"{held:.1f} GiB", "bf16", f"{logits:.1f} GiB", "max_seq_len") == []
    assert absent(of_disk, f"{saved:.1f} GiB") == []
    assert absent(steps, 50, 4, 100) == []
    assert " to " not in steps, "one number of steps is no range"
    assert absent(node, "24G", 1) == []
    assert (round(held, 1), round(saved, 1), round(logits, 1)) == (2.3, 4.6, 2.0)


def test_saving_only_the_adapter_needs_little_space() -> None:
    (finding,) = found("estimate", {"save_adapter_weights_only": True})
    _, of_disk, *_ = parts = finding.message.split("; ")
    assert absent(of_disk, "less than 0.1 GiB") == []
    assert len(parts) == 3, "without a number of samples there is none of steps"


def test_estimates_that_differ_by_run_are_ranges() -> None:
    (finding,) = found("estimate", {"epochs": 1}, {"epochs": 3}, {**LLAMA_8B}, splits={DATA: {"train": 40}})
    of_the_gpu, _, steps, _ = finding.message.split("; ")
    assert absent(of_the_gpu, "2.3 GiB to 15.1 GiB") == []
    assert absent(steps, "10 to 30", 4, 40) == []


def test_the_estimate_includes_samples_per_step_and_requests_of_the_job() -> None:
    def told(*runs: Any, **more: Any) -> list[str]:
        (finding,) = found("estimate", *runs, splits={DATA: {"train": 400}}, **more)
        return finding.message.split("; ")[2:]

    steps, node = told({"batch_size": 2}, {"batch_size": 8, "gpus": 2})
    assert absent(steps, "50 to 400", "2 to 16") == []
    assert re.findall(r"\d+G?", node) == ["24G", "1", "32G", "2"]
    assert re.findall(r"\d+G?", told({"mem": "90G"})[1]) == ["90G", "1"]
    assert re.findall(r"\d+G?", told({"cpus_per_task": 7})[1]) == ["24G", "7"]
    assert told({"mem": "90G", "cpus_per_task": 7})[1:] == []
    assert re.findall(r"\d+G?", told({"mem": "90G", "cpus_per_task": 7}, {})[1]) == ["24G", "1"]
    assert told({}, script="/s.py")[1:] == []
    full = {**LLAMA_8B, "custom_recipe": "full_finetune_single_device", "lora_rank": None, "lora_alpha": None}
    distributed = {**full, "custom_recipe": "full_finetune_distributed", "gpus": 2}
    assert told(full)[1] != told(LLAMA_8B)[1]
    assert told({**distributed, "epochs": 1})[1] != told({**distributed, "epochs": 2})[1]


def test_an_unknown_model_has_no_estimate() -> None:
    assert not found("estimate", {"torchtune_model_name": "My-Model"})
    (finding,) = found("estimate", {"torchtune_model_name": "My-Model"}, {})
    assert absent(finding.message, "run1") == []
    assert "run0" not in finding.message


def test_optimizer_moments_are_saved_between_epochs() -> None:
    """Calculate by hand: 8,030,261,248 parameters x 2 bytes, once per epoch, and twice more if there are several."""
    full: Changes = {
        **LLAMA_8B,
        "custom_recipe": "full_finetune_single_device",
        "lora_rank": None,
        "lora_alpha": None,
        "save_adapter_weights_only": None,
    }
    for epochs, copies in ((1, 1), (3, 5)):
        (finding,) = found("estimate", {**full, "epochs": epochs})
        assert absent(finding.message.split("; ")[1], f"{copies * 8_030_261_248 * 2 / GIB:.1f} GiB") == []


@pytest.mark.parametrize(
    ("changes", "each"),
    [
        # by hand, for each of 16 layers: in + out of q, v and the output of attention, and of the three of the MLP
        ({}, 16 * (4096 + 2560 + 4096 + 3 * 10_240)),
        ({"lora_attn_modules": "q_proj", "apply_lora_to_mlp": True}, 16 * (4096 + 3 * 10_240)),
        ({"apply_lora_to_mlp": False, "apply_lora_to_output": False}, 16 * (4096 + 2560 + 4096)),
        ({"apply_lora_to_output": True}, 0),  # it is tied to the embedding: torchtune has no LoRA there
        (LLAMA_8B, 32 * (8192 + 5120 + 8192 + 3 * 18_432)),
        ({**LLAMA_8B, "apply_lora_to_output": True}, 32 * (8192 + 5120 + 8192 + 3 * 18_432) + 4096 + 128_256),
        ({"lora_rank": None}, 0),
    ],
)
def test_trained_parameters_are_those_of_the_lora_modules(changes: Changes, each: int) -> None:
    run = run_of(changes)
    assert need_of(run, facts_of(run.text("torchtune_model_name"))).trained == each * 8 * 2


# --- GPU memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraint", "memory", "teraflops"),
    [
        ("a100", 80, 312), ("gpu80", 80, 0), ("gpu40", 40, 0), ("a100&gpu40", 40, 312), ("A100-80GB", 80, 312),
        ("h100|a100", 80, 989), ("a100|h200", 80, 989), ("v100|h100", 32, 0), ("h100|80gb", 80, 0),
        ("[a40*1&ib]", 48, 150), ("vram16", 16, 0), ("l40s", 48, 362),
        ("h200", 141, 989), ("a100_40g", 40, 312),
    ],
)  # fmt: skip
def test_the_gpu_in_a_constraint_is_recognized(constraint: str, memory: int, teraflops: int) -> None:
    gpu = gpu_of(constraint)
    assert gpu is not None
    assert (gpu.memory, gpu.teraflops) == (memory, teraflops)


def test_every_known_gpu_has_its_memory_and_speed() -> None:
    """Compare memory in GiB and dense bf16 TFLOPS with the data sheets of the manufacturers."""
    known = {
        "b200": (180, 2250), "h200": (141, 989), "h100": (80, 989), "gh200": (96, 989), "a100": (80, 312),
        "l40s": (48, 362), "l40": (48, 181), "a40": (48, 150), "a6000": (48, 155), "a30": (24, 165), "a10": (24, 125),
        "l4": (24, 121), "rtx4090": (24, 165), "rtx3090": (24, 71), "v100": (32, 0), "p100": (16, 0), "t4": (16, 0),
        "mi250": (64, 181), "mi300": (192, 1307),
    }  # fmt: skip
    assert {name: (gpu.memory, gpu.teraflops) for name in known if (gpu := gpu_of(name))} == known


@pytest.mark.parametrize("constraint", ["", "ib", "cascade", "80", "rack12", "nomig"])
def test_a_constraint_without_a_gpu(constraint: str) -> None:
    assert gpu_of(constraint) is None


def test_more_memory_than_the_gpu_has_is_a_warning() -> None:
    (finding,) = found("gpu-memory", {**LLAMA_70B, "constraint": "gpu80"})
    assert finding.severity is Severity.WARNING
    assert (finding.file, finding.line) == (SUMMARY, LINES["gpus"])
    assert (finding.expected, finding.actual) == ("at most 80 GiB", "132.9 GiB")
    assert absent(finding.message, "132.9 GiB", "constraint 'gpu80'", "80 GiB") == []
    assert "GPU type" not in finding.message


@pytest.mark.parametrize(
    ("mem", "changes", "enough"),
    [
        ("4G", {}, "24G"), ("4096M", {}, "24G"), ("6000", {}, "24G"),
        ("16G", LLAMA_8B, "64G"), ("31G", LLAMA_8B, "64G"),
        ("16G", {**LLAMA_8B, "custom_recipe": "full_finetune_single_device"}, "48G"),
    ],
)  # fmt: skip
def test_less_node_memory_than_saving_needs_is_a_warning(mem: str, changes: Changes, enough: str) -> None:
    each: Changes = {**changes, "mem": mem, "save_adapter_weights_only": False}
    (finding,) = found("node-memory", each, {**each, "lora_rank": 16})
    assert (finding.severity, finding.field, finding.actual) == (Severity.WARNING, "mem", mem)
    assert absent(finding.fix, mem, enough) == []


def test_runs_that_need_more_node_memory_raise_the_line_that_all_share() -> None:
    each: Changes = {"mem": "12G", "save_adapter_weights_only": False}
    (finding,) = found("node-memory", each, {**LLAMA_8B, **each})
    assert absent(finding.fix, "12G", "64G") == []
    assert "column" not in finding.fix


@pytest.mark.parametrize(
    "changes",
    [{"mem": "8G"}, {"mem": "8000"}, {"mem": "1T"}, {"mem": None}, {**LLAMA_8B, "mem": "32G"},
     {"mem": "2G", "save_adapter_weights_only": True}],
)  # fmt: skip
def test_sufficient_or_unknown_node_memory_gives_no_warning(changes: Changes) -> None:
    assert found("node-memory", {"save_adapter_weights_only": False, **changes}) == []


def test_the_gpu_type_determines_the_memory() -> None:
    (finding,) = found("gpu-memory", {**LLAMA_70B, "gpu_type": "a100"})
    assert finding.expected == "at most 80 GiB"
    assert absent(finding.message, "GPU type 'a100'", "80 GiB") == []
    assert "constraint" not in finding.message
    (finding,) = found("gpu-memory", {**LLAMA_70B, "gpu_type": "a100", "constraint": "gpu40"})
    assert finding.expected == "at most 40 GiB"
    assert absent(finding.message, "GPU type 'a100'", "constraint 'gpu40'", "40 GiB") == []


@pytest.mark.parametrize("constraint", [None, "fast"])
def test_more_memory_than_any_common_gpu_has_is_a_warning(constraint: str | None) -> None:
    (finding,) = found("gpu-memory", {**LLAMA_70B, "constraint": constraint})
    assert finding.severity is Severity.WARNING
    assert (finding.field, finding.expected) == ("gpus", "at most 80 GiB")


@pytest.mark.parametrize(
    "changes",
    [
        {**LLAMA_70B, "constraint": "gpu80", "gpus": 2},
        {**LLAMA_70B, "gpus": 2},
        {**LLAMA_70B, "constraint": "h200"},
        {**LLAMA_8B, "constraint": "gpu40"},
        {**LLAMA_8B, "constraint": "fast"},
    ],
)
def test_sufficient_or_unknown_memory_gives_no_warning(changes: Changes) -> None:
    assert not found("gpu-memory", changes)


def test_full_fine_tuning_keeps_gradients_and_moments_of_all_weights() -> None:
    full: Changes = {**LLAMA_8B, "custom_recipe": "full_finetune_single_device", "lora_rank": None, "lora_alpha": None}
    (finding,) = found("gpu-memory", {**full, "constraint": "gpu40"})
    assert finding.actual == f"{8_030_261_248 * 8 / GIB:.1f} GiB"
    assert not found("gpu-memory", {**full, "constraint": "gpu80"})


def test_state_that_fsdp_keeps_off_the_gpus_is_not_counted() -> None:
    full: Changes = {**LLAMA_70B, "custom_recipe": "full_finetune_distributed", "lora_rank": None, "lora_alpha": None}
    assert not found("gpu-memory", {**full, "gpus": 4, "constraint": "gpu40"})
    assert found("gpu-memory", {**full, "gpus": 1, "constraint": "gpu80"})
    assert found("gpu-memory", {**LLAMA_70B, "gpus": 2, "constraint": "gpu40"})  # LoRA keeps all of its state there
    small: Changes = {**full, **LLAMA_8B, "gpus": 2, "constraint": "a10"}
    assert found("gpu-memory", small)  # so does the recipe of a model that fits


# --- disk -------------------------------------------------------------------------------------------------------------


def test_outputs_that_do_not_fit_on_disk_are_a_warning() -> None:
    runs: list[Changes] = [{"save_adapter_weights_only": False}, {"save_adapter_weights_only": False, "lora_rank": 16}]
    (finding,) = found("disk-space", *runs, seen=DiskState(free={BASE: 9 * GIB}))
    assert (finding.severity, finding.line) == (Severity.WARNING, LINES["output_dir_base"])
    assert finding.expected == "9.3 GiB free"
    assert absent(finding.message, "9.3 GiB", BASE, "9.0 GiB") == []
    assert not found("disk-space", *runs, seen=DiskState(free={BASE: 10 * GIB}))
    assert not found("disk-space", *runs, seen=DiskState(free={"/elsewhere": 1}))
    assert not found("disk-space", {"output_dir_base": None}, seen=DiskState(free={BASE: 1}))


def test_outputs_that_just_fit_on_disk_are_accepted() -> None:
    """Calculate by hand: 663,552 parameters x rank 8 x 2 bytes after each of 2 epochs, and two such moments once."""
    needed = 4 * 663_552 * 8 * 2
    assert not found("disk-space", {}, seen=DiskState(free={BASE: needed}))
    assert found("disk-space", {}, seen=DiskState(free={BASE: needed - 1}))


def test_the_adapter_is_saved_together_with_the_merged_model() -> None:
    lora: Changes = {"lora_rank": 512, "epochs": 1}
    adapter = 663_552 * 512 * 2 / GIB
    (finding,) = found("estimate", {**lora, "save_adapter_weights_only": False})
    assert absent(finding.message.split("; ")[1], f"{1_235_814_400 * 2 / GIB + adapter:.1f} GiB") == []
    (finding,) = found("estimate", {**lora, "save_adapter_weights_only": True})
    assert absent(finding.message.split("; ")[1], f"{adapter:.1f} GiB") == []


def test_steps_of_packed_samples_are_not_estimated() -> None:
    (finding,) = found("estimate", {"packed": True}, {}, splits={DATA: {"train": 100}})
    assert len(finding.message.split("; ")) == 3


# --- time -------------------------------------------------------------------------------------------------------------


def long_data(characters: int) -> DiskState:
    kinds: Any = {"input": {"text": 1}, "output": {"text": 1}}
    part = DataPart(rows=1000, columns=kinds, characters={"input": characters, "output": 0})
    return DiskState(data={DATA: DataFile(parts={"train": part})})


def test_a_time_limit_below_the_minimum_compute_time_is_a_warning() -> None:
    """Calculate by hand: 1e9 characters are 2.5e8 tokens; 2 epochs x 4 x 1.236e9 FLOPs on an A100 at half its peak."""
    run: Changes = {"constraint": "a100", "time": "04:24:00"}
    (finding,) = found("time-limit", run, seen=long_data(1_000_000_000))
    seconds = 2 * 2.5e8 * (4 * 1_235_814_400 + 2 * 8 * 663_552) / (312e12 * 0.5)
    time = str(timedelta(seconds=int(seconds)))
    assert (finding.severity, finding.line) == (Severity.WARNING, LINES["time"])
    assert (finding.expected, finding.actual) == (f"more than {time}", "04:24:00")
    assert absent(finding.message, time, "constraint 'a100'", "04:24:00") == []
    assert time == "4:24:37"


@pytest.mark.parametrize(
    "changes",
    [
        {"constraint": "a100", "time": "04:27:00"},
        {"constraint": "a100", "gpus": 2, "batch_size": 4},
        {"constraint": "a100|h100"},
        {"constraint": "gpu80"},
        {},
        {"constraint": "a100", "time": None},
        {"constraint": "a100", "torchtune_model_name": "My-Model"},
    ],
)
def test_sufficient_or_unknown_time_gives_no_warning(changes: Changes) -> None:
    run = {"time": "02:30:00", **changes}
    assert not found("time-limit", run, seen=long_data(1_000_000_000))
    assert not found("time-limit", {"constraint": "a100", "time": "00:00:01"})


def test_the_time_of_uncounted_samples_is_unknown() -> None:
    run: Changes = {"constraint": "a100", "time": "00:00:00"}
    assert not found("time-limit", run, splits={DATA: {"train": 10**9}})
    assert not found(
        "time-limit", run, seen=DiskState(data={DATA: DataFile(parts={"train": DataPart(rows=0, columns={})})})
    )


def test_full_fine_tuning_computes_the_gradients_of_all_weights() -> None:
    """Calculate by hand: six FLOPs per weight and token instead of four: 6.6 hours instead of 4.4."""
    full: Changes = {"custom_recipe": "full_finetune_single_device", "lora_rank": None, "lora_alpha": None}
    run = {"constraint": "a100", "time": "06:30:00"}
    (finding,) = found("time-limit", {**run, **full}, seen=long_data(1_000_000_000))
    assert finding.expected == "more than 6:36:05"
    assert not found("time-limit", run, seen=long_data(1_000_000_000))

"""Builds an experiment's two documents inline, and reads and plans them in memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from scaffold_torchtune.errors import Finding, Refused
from scaffold_torchtune.models.experiment import Experiment
from scaffold_torchtune.models.plan import Options, Plan
from scaffold_torchtune.parse import parse_experiment
from scaffold_torchtune.plan import Place, make_plan

MODEL = "Llama-3.2-1B-Instruct"
SUMMARY = "experiment_summary.md"
LOCAL = "claude.local.md"
DIRECTORY = "/lab/sweep"

# The document in the form of the mission's example, and the claude.local.md that goes with it.
EXAMPLE_SUMMARY = """\
# cap_4L_lora_lr_sweep

## Overview
- **Type:** experiment
- **Runs:** 4 fine-tuned + 1 control = 5 total
- **Question:** How do LoRA rank and learning rate change capitalization accuracy?
- **Created:** 2026-11-20

## Tools
- **Model Preparation:** torchtune
- **Evaluation:** inspect-ai

## Variables
| Factor | Levels |
|--------|--------|
| LoRA Rank | 8, 16 |
| Learning Rate | 1e-5, 5e-5 |

## All Runs
| Run Name | Model | LoRA Rank | Learning Rate | Batch Size | Type | Est. Time |
|----------|-------|-----------|---------------|------------|------|-----------|
| Llama-3.2-1B-Instruct_rank8_lr1e-5 | Llama-3.2-1B-Instruct | 8 | 1e-5 | 4 | Fine-tuned | ~10min |
| Llama-3.2-1B-Instruct_rank8_lr5e-5 | Llama-3.2-1B-Instruct | 8 | 5e-5 | 4 | Fine-tuned | ~10min |
| Llama-3.2-1B-Instruct_rank16_lr1e-5 | Llama-3.2-1B-Instruct | 16 | 1e-5 | 4 | Fine-tuned | ~10min |
| Llama-3.2-1B-Instruct_rank16_lr5e-5 | Llama-3.2-1B-Instruct | 16 | 5e-5 | 4 | Fine-tuned | ~10min |
| Llama-3.2-1B-Instruct_base | Llama-3.2-1B-Instruct | - | - | - | Control | N/A |

## Resources

### Models
- **Llama-3.2-1B-Instruct**: `/scratch/gpfs/LAB/pretrained-llms/Llama-3.2-1B-Instruct`
  - Verified: ✓ (2026-11-20)
  - Size: ~2.5 GB

### Dataset
- **Path**: `/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json`
- **Format:** JSON
- **Size:** 24KB
- **Splits:** train (240 samples), validation (30 samples), test (30 samples)
- **Verified:** ✓ (2026-11-20)

## Configuration

### Training
- **Recipe:** lora_finetune_single_device
- **Epochs:** 2
- **GPUs:** 1
- **Batch size:** 4
- **System prompt:** "Capitalize the given word"

### Output
- **Checkpoint directory:** `/scratch/gpfs/LAB/ada/ck-outputs`
- **Naming pattern:** `ck-out-{run_name}/epoch_{N}`

## Quick Reference

**Paths:**
- Experiment: `/scratch/gpfs/LAB/ada/cap_4L_lora_lr_sweep`
- Models: `/scratch/gpfs/LAB/pretrained-llms/`
- Dataset: `/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json`
"""

EXAMPLE_LOCAL = """\
# Local environment

## HPC Environment

- **Cluster**: `della`
- **Username**: `ada`
- **Group**: `LAB`
- **Scratch directory**: `/scratch/gpfs/LAB/ada`
- **Working directory**: `/home/ada/cruijff_kit`

### Shared Resources

- **Models directory**: `/scratch/gpfs/LAB/pretrained-llms`

## SLURM Defaults

- **Account**: `lab`
- **Partition**: (leave empty)
- **Constraint**: `gpu80`
- **Default time**: `0:59:00`
- **Default GPUs**: `1`
- **Default conda environment**: `cruijff`

## Module System

```bash
module load anaconda3/2025.6
```

## Weights & Biases

- **Entity**: `<your_wandb_entity>`
- **Default project**: `capitalization`

## Common Paths

- **Output base directory**: `/scratch/gpfs/LAB/ada/ck-outputs/`
"""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def runs(count: int = 1, *, controls: int = 0, model: str = MODEL, **columns: Sequence[str]) -> str:
    """A table of `count` fine-tuned runs and some controls.

    `columns` are further columns by name (`_` for a space) with one cell a run. Where no `Model`, `LoRA_Rank` or
    `Learning_Rate` is given, each run has the usual one.
    """
    given: dict[str, Sequence[str]] = {
        "Run Name": [f"run_{i + 1}" for i in range(count)],
        "Model": [model] * count,
        "LoRA Rank": ["8"] * count,
        "Learning Rate": ["1e-5"] * count,
    }
    given |= {name.replace("_", " "): cells for name, cells in columns.items()}
    given["Type"] = ["Fine-tuned"] * count
    rows = [[cells[i] for cells in given.values()] for i in range(count)]
    blank = ["-"] * (len(given) - 3)
    rows += [[f"base_{i + 1}", model, *blank, "Control"] for i in range(controls)]
    return table(list(given), rows)


def summary(
    *,
    title: str | None = "# sweep",
    table: str | None = None,
    models: Mapping[str, str] | None = None,
    dataset: str | None = "`/data/words.json`",
    training: Mapping[str, str | None] | None = None,
    output: str | None = None,
    extra: str = "",
) -> str:
    """An experiment_summary.md; a part that is None is left out. `training` changes lines of Configuration."""
    lines = {"Epochs": "2", "Batch size": "4", **(training or {})}
    models = {MODEL: f"`/models/{MODEL}`"} if models is None else models
    parts = [
        title or "",
        "## All Runs\n" + (runs(2, LoRA_Rank=["8", "16"]) if table is None else table),
        "## Resources\n\n### Models",
        "\n".join(f"- **{name}**: {path}" for name, path in models.items()),
        "### Dataset" + (f"\n- **Path**: {dataset}" if dataset else ""),
        "## Configuration\n\n### Training",
        "\n".join(f"- **{label}:** {value}" for label, value in lines.items() if value is not None),
        f"### Output\n- **Checkpoint directory:** {output}" if output else "",
        extra,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def local_md(**changes: str | None) -> str:
    """A claude.local.md of plain lines by setting; a setting whose change is None is left out."""
    lines = {"conda_env": "tune", "my_wandb_project": "words", "output_dir_base": "/scratch/out", **changes}
    return "# Local\n\n" + "".join(f"- {name}: {value}\n" for name, value in lines.items() if value is not None)


def parsed(
    text: str | None = None, local: str | None = None, is_here: Callable[[str], bool] = lambda _: True
) -> Experiment:
    """The experiment that the two texts describe."""
    text = summary() if text is None else text
    local = local_md() if local is None else local
    return parse_experiment((SUMMARY, text), (LOCAL, local), is_here)


def planned(text: str | None = None, local: str | None = None, previous: Plan | None = None, **options: Any) -> Plan:
    """The plan of the two texts, in a place where every template is."""
    place = Place(DIRECTORY, "/home/ada", "/templates", lambda _: True, previous=previous)
    return make_plan(parsed(text, local), Options(**options), place)


def refusal(call: Callable[..., object], *arguments: Any, **keywords: Any) -> tuple[Finding, ...]:
    """The problems with which a call is refused."""
    with pytest.raises(Refused) as caught:
        call(*arguments, **keywords)
    assert all(problem.message and problem.fix for problem in caught.value.problems)
    return caught.value.problems


def told(problems: Sequence[Finding]) -> list[tuple[str, str | None, str | None, int | None]]:
    """What problems are about: code, field, file and line."""
    return [(p.code, p.field, p.file, p.line) for p in problems]

"""The two documents of the example, with lines removed or added on request."""

EXAMPLE_DIRECTORY = "/scratch/gpfs/LAB/ada/cap_4L_lora_lr_sweep"
"""The directory of the example, as in its summary."""

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


def without(*starts: str, text: str = EXAMPLE_SUMMARY) -> str:
    """Return the text without the lines with a prefix."""
    kept = [line for line in text.splitlines(keepends=True) if not line.startswith(starts)]
    assert len(kept) < len(text.splitlines())
    return "".join(kept)


def with_training(line: str) -> str:
    """Return the summary with an additional line in Configuration."""
    return EXAMPLE_SUMMARY.replace("- **Epochs:** 2\n", f"- **Epochs:** 2\n{line}\n")

"""One experiment in both forms of a summary, planned in memory or scaffolded on disk."""

from pathlib import Path
from typing import Literal

import pytest

from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.corpus_cases import plan_of

MARKDOWN = """\
# sweep

## All Runs

| Run Name | Model | LoRA Rank | Learning Rate | Batch Size | Type |
|---|---|---|---|---|---|
| first | Llama-3.2-1B-Instruct | 8 | 1e-5 | 4 | Fine-tuned |
| second | Llama-3.2-1B-Instruct | 16 | 5e-5 | 4 | Fine-tuned |
| base | Llama-3.2-1B-Instruct | - | - | - | Control |

## Resources

### Models

- **Llama-3.2-1B-Instruct**: `/models/Llama-3.2-1B-Instruct`

### Dataset

- **Path**: `/data/words.json`

## Configuration

### Training

- **Epochs:** 2
- **Seed:** 7
- **System prompt:** "Capitalize the word"
- **Prompt:** "{input}"
- **Validation during training:** Yes
"""

YAML = """\
experiment:
  name: sweep
controls:
  epochs: 2
  batch_size: 4
  seed: 7
  system_prompt: Capitalize the word
  prompt: "{input}"
  validation_during_training: true
models:
  base:
    - name: Llama-3.2-1B-Instruct
      path: /models/Llama-3.2-1B-Instruct
data:
  training:
    path: /data/words.json
runs:
  - name: first
    type: fine-tuned
    model: Llama-3.2-1B-Instruct
    parameters: {lora_rank: 8, lr: 1e-5}
  - name: second
    type: fine-tuned
    model: Llama-3.2-1B-Instruct
    parameters: {lora_rank: 16, lr: 5e-5}
  - name: base
    type: control
    model: Llama-3.2-1B-Instruct
"""

LOCAL = """\
- **Conda environment**: `tune`
- **Default project**: `words`
- **Output base directory**: `/scratch/out/`
- **Account**: `lab`
"""

MD, YML, LOC = "experiment_summary.md", "experiment_summary.yaml", "claude.local.md"
Form = Literal["markdown", "yaml"]
FORMS: dict[Form, tuple[str, str]] = {"markdown": (MD, MARKDOWN), "yaml": (YML, YAML)}


def write(folder: Path, **documents: str | bytes) -> Path:
    folder.mkdir(parents=True)
    names = {"md": MD, "yml": YML, "local": LOC}
    for name, text in {"local": LOCAL, **documents}.items():
        (folder / names[name]).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def scaffolded(folder: Path, names: Literal["varying", "table"] = "varying", **documents: str | bytes) -> Path:
    """Scaffold the documents in a folder with a fixed path, and move it to its destination."""
    place = write(folder.parent / "place" / "sweep", **documents)
    result = steps.scaffold(Request(place, names=names))
    assert result.ok
    place.rename(folder)
    return folder


def problems_of(form: Form, local: str = LOCAL, *, summary: str | None = None) -> list[Finding]:
    name, text = FORMS[form]
    with pytest.raises(Refused) as refused:
        plan_of((name, text if summary is None else summary), (LOC, local))
    return list(refused.value.problems)

"""How large a part of scaffolding its validation is: both as whole commands, side by side, for one experiment.

    python benchmarks/validate_share.py [--runs 100] [--times 5]

Prints the median seconds of `scaffold` into a new directory, of `validate` on what it made, of a Python that only
imports the package (what both pay before they work), and the ratios.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "scaffold_torchtune"]
HEAD = "| Run Name | Model | LoRA Rank | Learning Rate | Batch Size | Type |\n|---|---|---|---|---|---|\n"
EXAMPLE = Path(__file__).parent.parent / "examples" / "capitalization_lora_sweep"


def make_experiment(directory: Path, runs: int) -> None:
    """Return the bundled example with a different number of runs, and with its data set."""
    summary = (EXAMPLE / "experiment_summary.md").read_text()
    begin = summary.index("| Run Name")
    end = summary.index("\n\n", begin)
    levels = list(itertools.islice(itertools.product(range(1, 11), range(1, runs // 10 + 2)), runs))
    model = "Llama-3.2-1B-Instruct"
    rows = [f"| run{i} | {model} | {8 * rank} | {lr}e-6 | 4 | Fine-tuned |" for i, (rank, lr) in enumerate(levels)]
    table = HEAD + "\n".join(rows)
    directory.mkdir()
    text = (summary[:begin] + table + summary[end:]).replace("4 fine-tuned + 1 control = 5 total", f"{runs} fine-tuned")
    ranks, rates = (sorted({level[i] for level in levels}) for i in (0, 1))
    text = text.replace("| LoRA Rank | 8, 16 |", f"| LoRA Rank | {', '.join(str(8 * rank) for rank in ranks)} |")
    text = text.replace(
        "| Learning Rate | 1e-5, 5e-5 |", f"| Learning Rate | {', '.join(f'{lr}e-6' for lr in rates)} |"
    )
    (directory / "experiment_summary.md").write_text(text)
    (directory / "claude.local.md").write_text((EXAMPLE / "claude.local.md").read_text())
    (directory / "data").mkdir()
    rows_of = {name: [{"input": "a", "output": "b"}] * 240 for name in ("train", "validation", "test")}
    (directory / "data" / "words_5L_300.json").write_text(json.dumps(rows_of))


def seconds(*command: str) -> float:
    """How long a command takes, which must end well."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    """Measure in turns, so that a busy moment of the machine meets all alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    taken: dict[str, list[float]] = {"scaffold": [], "validate": [], "import": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.times):
            experiment = Path(folder) / str(turn)
            make_experiment(experiment, options.runs)
            taken["scaffold"].append(seconds(*COMMAND, "scaffold", str(experiment), "--json"))
            taken["validate"].append(seconds(*COMMAND, "validate", str(experiment), "--json"))
            taken["import"].append(seconds(sys.executable, "-c", "import scaffold_torchtune.cli.dispatch"))
    middle = {name: statistics.median(times) for name, times in taken.items()}
    for name, value in middle.items():
        sys.stdout.write(f"{name:>9}: {value:.2f} s (median of {options.times}, {options.runs} runs)\n")
    work = {name: middle[name] - middle["import"] for name in ("scaffold", "validate")}
    sys.stdout.write(f"validate / scaffold: {middle['validate'] / middle['scaffold']:.2f} as whole commands, ")
    sys.stdout.write(f"{work['validate'] / work['scaffold']:.2f} without the start of Python and its imports\n")


if __name__ == "__main__":
    main()

"""What running an external script for many runs costs beside the scripts themselves, both as processes on all cores.

    python benchmarks/external_scripts.py [--runs 200] [--seconds 0.1] [--times 3]

The script takes that much time of a processor in each run, and writes files that were made before. Prints the median
seconds of `setup` for all runs, of the same processes started by a plain pool of threads as many at a time, the sum of
the processor time that the scripts took by their own count divided by the cores, the ratios, and the peak memory.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from validate_share import COMMAND, make_experiment

CORES = len(os.sched_getaffinity(0))
SCRIPT = """\
import pathlib, shutil, time
made = pathlib.Path({made!r})
name = next(line.split()[1] for line in open("setup_finetune.yaml") if line.startswith("my_wandb_run_name"))
for file in ("finetune.yaml", "finetune.slurm"):
    shutil.copy(made / name / file, file)
while time.process_time() < {seconds}:
    pass
with open({spent!r}, "a") as file:
    file.write(f"{{time.process_time()}}\\n")
"""


def seconds(*command: str) -> float:
    """How long a command takes, which must end well."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def plain(script: Path, runs: list[Path], folder: Path) -> float:
    """How long the same processes take that a plain pool starts, each in a directory with its setup_finetune.yaml."""

    def run(directory: Path) -> None:
        (work := folder / directory.name).mkdir()
        shutil.copy(directory / "setup_finetune.yaml", work)
        subprocess.run([sys.executable, str(script)], cwd=work, check=True, stdin=subprocess.DEVNULL)

    folder.mkdir()
    begun = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(run, runs))
    return time.perf_counter() - begun


def main() -> None:
    """Measure in turns, so that a busy moment of the machine meets all alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    taken: dict[str, list[float]] = {"setup": [], "plain": [], "scripts": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        experiment, made, spent = folder / "experiment", folder / "made", folder / "spent"
        make_experiment(experiment, options.runs)
        seconds(*COMMAND, "scaffold", str(experiment), "--json")
        shutil.copytree(experiment, made)
        shutil.rmtree(experiment)
        make_experiment(experiment, options.runs)
        runs = sorted(path.parent for path in made.glob("*/setup_finetune.yaml"))
        for turn in range(options.times):
            script = folder / f"setup_finetune_{turn}.py"
            script.write_text(SCRIPT.format(made=str(made), seconds=options.seconds, spent=str(spent)))
            given = ["--setup-script", str(script), "--no-activate"]
            seconds(*COMMAND, "render", str(experiment), "--json", *given[:2], *given[2:])
            spent.write_text("")
            taken["setup"].append(seconds(*COMMAND, "setup", str(experiment), "--json", *given, "--jobs", str(CORES)))
            taken["scripts"].append(sum(map(float, spent.read_text().split())) / CORES)
            taken["plain"].append(plain(script, runs, folder / f"plain_{turn}"))
    setup, beside, scripts = (statistics.median(taken[name]) for name in ("setup", "plain", "scripts"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps({"runs": options.runs, "cores": CORES, **{k: [round(s, 2) for s in v] for k, v in taken.items()}}))
    print(f"setup {setup:.2f} s, the same processes from a plain pool {beside:.2f} s: ratio {setup / beside:.2f}")
    print(f"processor time of the scripts by cores {scripts:.2f} s: ratio {setup / scripts:.2f}; peak {peak:.0f} MB")


if __name__ == "__main__":
    main()

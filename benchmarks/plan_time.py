"""Processor time of planning an experiment, beside another checkout of the project.

    python benchmarks/plan_time.py [--beside CHECKOUT] [--runs 100] [--times 5]

Each plan is made by a fresh process, in turns, with the Python of each checkout's `.venv`. Prints the median seconds
(user and system) of the whole command, of the same command with `--help`, and their difference.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from validate_share import make_experiment

HERE = Path(__file__).parent.parent
MEASURED = {"plan": ["-m", "scaffold_torchtune", "plan"], "start": ["-m", "scaffold_torchtune", "plan", "--help"]}


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Return the processor time that a command takes, which must end well."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure in turns, so that a busy moment of the machine meets all alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", type=Path, help="the other checkout, with its .venv")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    checkouts = [HERE, *([options.beside.absolute()] if options.beside else [])]
    taken: dict[tuple[Path, str], list[float]] = {(each, name): [] for each in checkouts for name in MEASURED}
    with tempfile.TemporaryDirectory() as folder:
        experiment = Path(folder, "experiment")
        make_experiment(experiment, options.runs)
        # Compiled modules are kept apart from the checkouts; the first turn compiles them and does not count.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment = kept | {"PYTHONPYCACHEPREFIX": str(Path(folder, "compiled"))}
        for _ in range(options.times + 1):
            for (checkout, name), times in taken.items():
                python, last = str(checkout / ".venv" / "bin" / "python"), [str(experiment)] if name == "plan" else []
                times.append(seconds([python, *MEASURED[name], *last], environment))
    middle = {key: statistics.median(times[1:]) for key, times in taken.items()}
    work = {checkout: middle[checkout, "plan"] - middle[checkout, "start"] for checkout in checkouts}
    for checkout in checkouts:
        sys.stdout.write(
            f"{checkout.name:>12}: {middle[checkout, 'plan']:.2f} s of processor time for {options.runs} runs (median"
            f" of {options.times}), {middle[checkout, 'start']:.2f} s of it to start, {work[checkout]:.2f} s to plan\n"
        )
    if options.beside:
        whole, planning = middle[HERE, "plan"] / middle[checkouts[1], "plan"], work[HERE] / work[checkouts[1]]
        sys.stdout.write(f"ratio: {whole:.2f} as whole commands, {planning:.2f} without the start\n")


if __name__ == "__main__":
    main()

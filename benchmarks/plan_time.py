"""Processor time of planning an experiment before and after its first scaffold, and of a second scaffold.

    python benchmarks/plan_time.py [--beside CHECKOUT] [--runs 100] [--times 5]

Each command is a fresh process, in turns, with the Python of each checkout's `.venv`, or with this one where it has
none. One experiment has never been scaffolded; each checkout has another, which it has scaffolded, and which the second
scaffold does not change. Prints the median seconds (user and system) of the whole commands, of one with `--help`, and
the time that planning takes beyond that.
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
MEASURED = {
    "plan": ["plan"],
    "plan again": ["plan"],
    "scaffold again": ["scaffold", "--no-sbatch"],
    "start": ["plan", "--help"],
}
"""The arguments of each command; all but the last are given an experiment."""


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
    parser.add_argument("--beside", type=Path, help="the other checkout")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    checkouts = [HERE, *([options.beside.absolute()] if options.beside else [])]
    taken: dict[tuple[Path, str], list[float]] = {(each, name): [] for name in MEASURED for each in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        # Compiled modules are kept apart from the checkouts; the first turn compiles them and does not count.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment = kept | {"PYTHONPYCACHEPREFIX": str(Path(folder, "compiled"))}
        new = Path(folder, "new")
        make_experiment(new, options.runs)
        scaffolded = {checkout: Path(folder, str(number)) for number, checkout in enumerate(checkouts)}

        def run(checkout: Path, name: str) -> float:
            python = checkout / ".venv" / "bin" / "python"
            last = [] if name == "start" else [str(new if name == "plan" else scaffolded[checkout])]
            command = [str(python) if python.exists() else sys.executable, "-m", "scaffold_torchtune", *MEASURED[name]]
            return seconds([*command, *last], environment | {"PYTHONPATH": str(checkout / "server")})

        for checkout, experiment in scaffolded.items():
            make_experiment(experiment, options.runs)
            run(checkout, "scaffold again")
        for _ in range(options.times + 1):
            for (checkout, name), times in taken.items():
                times.append(run(checkout, name))
    middle = {key: statistics.median(times[1:]) for key, times in taken.items()}
    work = {checkout: middle[checkout, "plan"] - middle[checkout, "start"] for checkout in checkouts}
    for checkout in checkouts:
        took = {name: middle[checkout, name] for name in MEASURED}
        sys.stdout.write(
            f"{checkout.name:>12}: {took['plan']:.2f} s of processor time to plan {options.runs} runs (median of"
            f" {options.times}), {took['start']:.2f} s of it to start, {work[checkout]:.2f} s to plan;"
            f" {took['plan again']:.2f} s to plan again after a scaffold,"
            f" {took['scaffold again']:.2f} s to scaffold again\n"
        )
    if options.beside:

        def ratio(name: str) -> float:
            pairs = zip(taken[HERE, name][1:], taken[checkouts[1], name][1:], strict=True)
            return statistics.median(one / other for one, other in pairs)

        sys.stdout.write(
            f"ratio: {ratio('plan'):.2f} to plan, {work[HERE] / work[checkouts[1]]:.2f} without the start;"
            f" {ratio('plan again'):.2f} to plan again, {ratio('scaffold again'):.2f} to scaffold again\n"
        )


if __name__ == "__main__":
    main()

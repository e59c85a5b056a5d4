"""Processor time of planning an experiment, and of a second scaffold that changes nothing, beside another checkout.

    python benchmarks/plan_time.py [--beside CHECKOUT] [--runs 100] [--times 5]

Each command is a fresh process, in turns, with the Python of each checkout's `.venv`, or with this one where it has
none; each checkout has an experiment of its own, which it has scaffolded. Prints the median seconds (user and system)
of the whole commands, of one with `--help`, and what planning takes beyond that.
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
MEASURED = {"plan": ["plan"], "again": ["scaffold", "--no-sbatch"], "start": ["plan", "--help"]}
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
        experiments = {checkout: Path(folder, str(number)) for number, checkout in enumerate(checkouts)}

        def run(checkout: Path, name: str) -> float:
            python = checkout / ".venv" / "bin" / "python"
            last = [] if name == "start" else [str(experiments[checkout])]
            command = [str(python) if python.exists() else sys.executable, "-m", "scaffold_torchtune", *MEASURED[name]]
            return seconds([*command, *last], environment | {"PYTHONPATH": str(checkout / "server")})

        for checkout, experiment in experiments.items():
            make_experiment(experiment, options.runs)
            run(checkout, "again")
        for _ in range(options.times + 1):
            for (checkout, name), times in taken.items():
                times.append(run(checkout, name))
    middle = {key: statistics.median(times[1:]) for key, times in taken.items()}
    work = {checkout: middle[checkout, "plan"] - middle[checkout, "start"] for checkout in checkouts}
    for checkout in checkouts:
        sys.stdout.write(
            f"{checkout.name:>12}: {middle[checkout, 'plan']:.2f} s of processor time for {options.runs} runs (median"
            f" of {options.times}), {middle[checkout, 'start']:.2f} s of it to start, {work[checkout]:.2f} s to plan;"
            f" {middle[checkout, 'again']:.2f} s for a second scaffold\n"
        )
    if options.beside:
        pairs = zip(taken[HERE, "again"][1:], taken[checkouts[1], "again"][1:], strict=True)
        again = statistics.median(one / other for one, other in pairs)
        whole, planning = middle[HERE, "plan"] / middle[checkouts[1], "plan"], work[HERE] / work[checkouts[1]]
        sys.stdout.write(
            f"ratio: {whole:.2f} as whole commands, {planning:.2f} without the start; {again:.2f} a second scaffold\n"
        )


if __name__ == "__main__":
    main()

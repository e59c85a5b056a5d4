"""Time from the start of the server to its answer to `tools/list`, beside the SDK's smallest server.

    python benchmarks/server_start.py [--times 21]

Both are started in turns, each as a host does it: a process of its own, `initialize`, then `tools/list`, over its pipe.
Prints the medians in seconds and their ratio.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

SERVERS = {
    "smallest": [sys.executable, str(Path(__file__).parent / "smallest_server.py")],
    "ours": [str(Path(sys.executable).parent / "scaffold-torchtune"), "serve"],
}
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}


def seconds(command: list[str]) -> float:
    """How long a server takes from its start to its answer to `tools/list`."""
    begun = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdin is not None  # noqa: S101 - asked for above
        assert server.stdout is not None  # noqa: S101 - likewise
        messages: list[dict[str, object]] = [
            {"id": 1, "method": "initialize", "params": INITIALIZE},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/list"},
        ]
        for message in messages:
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            server.stdin.flush()
            if "id" in message:
                answer = json.loads(server.stdout.readline())
        taken = time.perf_counter() - begun
        if not answer["result"]["tools"]:
            raise SystemExit(f"{command[0]} lists no tool")
        server.stdin.close()
    return taken


def main() -> None:
    """Measure in turns, so that a busy moment of the machine meets both alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=21)
    options = parser.parse_args()
    taken: dict[str, list[float]] = {name: [] for name in SERVERS}
    for _ in range(options.times):
        for name, command in SERVERS.items():
            taken[name].append(seconds(command))
    middle = {name: statistics.median(times) for name, times in taken.items()}
    for name, value in middle.items():
        sys.stdout.write(f"{name:>9}: {value:.3f} s (median of {options.times})\n")
    sys.stdout.write(f"ours / smallest: {middle['ours'] / middle['smallest']:.2f}\n")


if __name__ == "__main__":
    main()

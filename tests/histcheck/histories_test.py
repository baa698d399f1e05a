#!/usr/bin/env python3
"""Holds histcheck against recorded histories whose verdicts are known, and tries its exit codes.

    histories_test.py HISTCHECK FOLDER

FOLDER/expected.txt has a line for each history: its file and its verdict."""

import pathlib
import subprocess
import sys
import tempfile
import time

SECONDS_MAX = 20  # of one history; each takes milliseconds
EXIT_CODES = {"linearizable": 0, "violation": 1, "undecided": 3}


def run(program, *arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def verdicts(output):
    """The line of each file; its story is indented."""
    lines = [line for line in output.splitlines() if not line.startswith("  ")]
    return dict(line.rsplit(": ", 1) for line in lines)


def check_history(program, path, expected):
    start = time.monotonic()
    got = run(program, path)
    seconds = time.monotonic() - start
    if verdicts(got.stdout) != {str(path): expected} or got.returncode != EXIT_CODES[expected]:
        yield f"{path.name}: not '{expected}': exit code {got.returncode}\n{got.stdout}{got.stderr}"
    if expected == "violation" and "longest order found" not in got.stdout:
        yield f"{path.name}: no story of the violation:\n{got.stdout}"
    if seconds > SECONDS_MAX:
        yield f"{path.name}: took {seconds:.1f} s"


def check_all(program, folder, expected):
    """All in one run: the same verdicts, in the order of the files."""
    paths = [folder / name for name in expected]
    got = run(program, *paths)
    if list(verdicts(got.stdout).items()) != [(str(p), expected[p.name]) for p in paths]:
        yield f"all together: other verdicts:\n{got.stdout}{got.stderr}"
    if got.returncode != 1:
        yield f"all together: exit code {got.returncode}"


def hard_history():
    """Twenty appends side by side and a read that fits none of their orders: no time is enough."""
    line = '{{:process {}, :type :{}, :f :{}, :key "k", :value {}}}\n'
    return "".join([line.format(i, "invoke", "append", f'"{i}"') for i in range(20)] +
                   [line.format(i, "ok", "append", f'"{i}"') for i in range(20)] +
                   [line.format(20, "invoke", "get", "nil"), line.format(20, "ok", "get", '"x"')])


def check_exit_codes(program):
    with tempfile.TemporaryDirectory(prefix="raftkv-histcheck-") as folder:
        files = {
            "good": "raftkv-history 1\n1 invoke get k\n1 ok none\n",
            "bad": "raftkv-history 1\n1 invoke get k\n1 ok value a 1\n",
            "hard": hard_history(),
            "torn": "raftkv-history 1\n1 invoke get k\n1 ok val",
            "bytes": "\x00\xff\n",
        }
        path = {name: pathlib.Path(folder, name) for name in files}
        for name, text in files.items():
            path[name].write_text(text, encoding="latin-1")
        short = ["--time-limit", "0.2"]
        cases = [
            ("linearizable", [path["good"]], 0, ""),
            ("a violation", [path["good"], path["bad"]], 1, ""),
            ("a torn line", [path["good"], path["torn"]], 2, f"{path['torn']}:3: 'ok' with what?"),
            ("bytes", [path["bytes"]], 2, f"{path['bytes']}:1: not a history"),
            ("no file", [path["good"].with_name("none")], 2, "none: cannot read it"),
            ("a folder", [folder], 2, "cannot read it"),
            ("no time", [*short, path["good"], path["hard"]], 3, ""),
            ("a violation behind others", [*short, path["torn"], path["hard"], path["bad"]], 1, ""),
            ("a bad file behind others", [*short, path["hard"], path["torn"]], 2, ""),
            ("no argument", [], 2, "Usage: histcheck"),
            ("no such option", ["--fast", path["good"]], 2, "there is no option '--fast'"),
            ("no number", ["--time-limit"], 2, "takes a number of seconds"),
            ("a wrong number", ["--time-limit", "-1", path["good"]], 2, "number of seconds"),
            ("an empty time", ["--time-limit", "0", path["good"]], 2, "number of seconds"),
            ("the manual", ["--help"], 0, ""),
        ]
        for name, arguments, code, complaint in cases:
            got = run(program, *arguments)
            if got.returncode != code or complaint not in got.stderr:
                yield (f"{name}: exit code {got.returncode}, wanted {code} and '{complaint}':\n"
                       f"{got.stdout}{got.stderr}")


def main():
    program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    lines = (folder / "expected.txt").read_text(encoding="utf-8").splitlines()
    expected = dict(line.split() for line in lines)
    wrong = []
    for name, verdict in expected.items():
        wrong += check_history(program, folder / name, verdict)
    wrong += check_all(program, folder, expected)
    wrong += check_exit_codes(program)
    there = {p.name for p in folder.iterdir()} - {"README.md", "expected.txt"}
    if there != set(expected):
        wrong.append(f"not in expected.txt, or not there: {sorted(there ^ set(expected))}")
    print("\n".join(wrong))
    print(f"{len(expected)} histories, {len(wrong)} complaints")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

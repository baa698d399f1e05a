#!/usr/bin/env python3
"""`./dev bench`: three raftkv nodes and a packaged Redis on one machine, in one run.

    bench.py --build build [--dir DIR] [--seconds N] [--rounds N] [--kills N] [--check]

Machines differ by a factor of three, so it is the ratios that mean something. For each connections
x depth, runs of raftkv and of Redis alternate, a few seconds each, and the medians are printed:

  SET   raftkv, three nodes, durable on a majority     Redis, one node, appendfsync always
  GET   raftkv, linearizable                           Redis, one node, without persistence

Redis is loaded by its own redis-benchmark, raftkv by raftkv-bench; both send a pipeline, wait for
all its replies, and send the next. Values have 128 bytes, keys are 100,000 of 16 bytes.

Then: processor time of all nodes for an operation, resident memory, what the cluster uses when it
is idle, and the time from the `kill -9` of the leader to the first acknowledged write.

With --check the exit code is 1 if one of the project's promises (PROMISES, below) is not kept."""

import argparse
import csv
import json
import math
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from cluster import (HOST, Cluster, Failure, cpu_seconds, describe_times, eventually,  # noqa: E402
                     free_ports, launch, percentile, raise_descriptor_limit, rss_bytes,
                     time_failovers)

GRID = ((1, 1), (50, 1), (50, 16), (256, 16))
VALUE_SIZE, KEYS = 128, 100_000
PROBE_COUNT, PROBE_SIZE = 500, 4096
IDLE_SECONDS = 5
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs", "devtmpfs")

SET_RATIO_MIN = 0.3
GET_RATIO_MIN = 0.3
FAILOVER_SECONDS_MAX = 0.4
IDLE_SHARE_MAX = 0.01


class Refusal(Exception):
    """Why there is nothing to measure."""


# -- The machine ---------------------------------------------------------------------------------


def file_system(directory):
    """The type of the file system that holds `directory`."""
    path, best, kind = os.path.realpath(directory), "", "unknown"
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            _, point, type_, *_ = line.split()
            point = point.replace("\\040", " ")
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, type_
    return kind


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def probe_disk(directory):
    """Seconds of `PROBE_COUNT` writes of 4 KiB with fdatasync, into a file that is there."""
    block, times = os.urandom(PROBE_SIZE), []
    file = directory / "probe"
    number = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.pwrite(number, bytes(PROBE_COUNT * PROBE_SIZE), 0)
        os.fsync(number)
        for i in range(PROBE_COUNT):
            began = time.perf_counter()
            os.pwrite(number, block, i * PROBE_SIZE)
            os.fdatasync(number)
            times.append(time.perf_counter() - began)
    finally:
        os.close(number)
        file.unlink()
    return times


def describe_machine(directory):
    times = probe_disk(directory)
    print(f"machine   {processor()}, {os.cpu_count()} cores, Linux {platform.release()}, "
          f"{file_system(directory)}")
    print(f"disk      4 KiB write + fdatasync: p50 {percentile(times, 0.5) * 1e3:.2f} ms, "
          f"p99 {percentile(times, 0.99) * 1e3:.2f} ms", flush=True)


# -- Redis ---------------------------------------------------------------------------------------


class Redis:
    """One redis-server, and redis-benchmark for it."""

    def __init__(self, directory, name, *options):
        self.directory = directory / f"redis-{name}"
        self.directory.mkdir()
        self.port = free_ports(1)[0]
        self.rates = {}
        self.process = launch(
            ["redis-server", "--port", str(self.port), "--bind", HOST, "--save", "",
             "--dir", str(self.directory), *options], self.directory / "log")
        eventually(f"redis-server ({name}) answers", self.answers)

    def answers(self):
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()

    def benchmark(self, test, connections, depth, requests):
        command = ["redis-benchmark", "-h", HOST, "-p", str(self.port), "-t", test, "--csv",
                   "-c", str(connections), "-P", str(depth), "-d", str(VALUE_SIZE),
                   "-r", str(KEYS), "-n", str(requests)]
        output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                check=True, timeout=600, text=True).stdout
        row = list(csv.DictReader(line for line in output.splitlines() if line))[-1]
        return {"rate": float(row["rps"]), "p50_ms": float(row["p50_latency_ms"]),
                "p99_ms": float(row["p99_latency_ms"])}

    def run(self, test, connections, depth, seconds):
        """redis-benchmark counts requests, not seconds: as many as the last rate makes of them."""
        place = (test, connections, depth)
        if place not in self.rates:
            first = 400 * math.ceil(math.sqrt(connections * depth))
            self.rates[place] = self.benchmark(test, connections, depth, first)["rate"]
        requests = max(1000, int(self.rates[place] * seconds))
        result = self.benchmark(test, connections, depth, requests)
        self.rates[place] = result["rate"]
        return result


# -- raftkv --------------------------------------------------------------------------------------


def raftkv_bench(build, config, *options):
    command = [str(build / "tests" / "bench" / "raftkv-bench"), "--config", str(config), "--json",
               "--keys", str(KEYS), "--value-size", str(VALUE_SIZE), *map(str, options)]
    result = subprocess.run(command, stdout=subprocess.PIPE, timeout=600, text=True)
    if result.returncode != 0:
        raise Failure(f"raftkv-bench ends with {result.returncode}: {result.stdout}")
    return json.loads(result.stdout)


def run_raftkv(cluster, mode, connections, depth, seconds):
    before = nodes_cpu(cluster)
    result = raftkv_bench(cluster.build, cluster.config, "--mode", mode, "--connections",
                          connections, "--depth", depth, "--seconds", seconds, "--warmup", 0.3)
    result["cpu_us"] = (nodes_cpu(cluster) - before) / result["operations_total"] * 1e6
    return result


def nodes_cpu(cluster):
    return sum(cpu_seconds(node.pid) for node in cluster.nodes)


def measure_idle(cluster):
    cluster.agree()
    before, began = nodes_cpu(cluster), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (nodes_cpu(cluster) - before) / (time.monotonic() - began)


# -- The grid ------------------------------------------------------------------------------------


def median_of(results, name):
    return statistics.median(result[name] for result in results)


def measure_cell(cluster, redis, mode, connections, depth, options):
    """Alternate, so that whatever else the machine does meets both."""
    ours, theirs = [], []
    for _ in range(options.rounds):
        theirs.append(redis.run(mode, connections, depth, options.seconds))
        ours.append(run_raftkv(cluster, mode, connections, depth, options.seconds))
    errors = {}
    for result in ours:
        for name, count in result["errors"].items():
            errors[name] = errors.get(name, 0) + count
    names = ("rate", "p50_ms", "p99_ms", "p999_ms", "cpu_us")
    cell = {name: median_of(ours, name) for name in names}
    cell.update({f"redis_{name}": median_of(theirs, name) for name in ("rate", "p50_ms", "p99_ms")})
    cell["ratio"] = statistics.median(
        our["rate"] / their["rate"] for our, their in zip(ours, theirs))
    cell["errors"] = errors
    return cell


def print_head():
    print()
    print("                   raftkv  (ms) p50     p99    p99.9  cpu us/op      Redis  (ms) p50"
          "     p99   ratio")


def print_cell(mode, connections, depth, cell):
    print(f"{mode.upper()}  {connections:>4} x {depth:<3}{cell['rate']:>11,.0f}/s"
          f"{cell['p50_ms']:>8.2f}{cell['p99_ms']:>8.2f}{cell['p999_ms']:>8.2f}"
          f"{cell['cpu_us']:>11.1f}{cell['redis_rate']:>10,.0f}/s"
          f"{cell['redis_p50_ms']:>8.2f}{cell['redis_p99_ms']:>8.2f}{cell['ratio']:>8.2f}"
          + (f"   errors {cell['errors']}" if cell["errors"] else ""), flush=True)


def measure_grid(cluster, directory, options):
    """{(mode, connections, depth): cell}."""
    cells = {}
    always = Redis(directory, "always", "--appendonly", "yes", "--appendfsync", "always")
    memory = Redis(directory, "memory", "--appendonly", "no")
    try:
        memory.benchmark("set", 50, 16, 5 * KEYS)
        raftkv_bench(cluster.build, cluster.config, "--preload", "--seconds", 0, "--depth", 16)
        print_head()
        for mode, redis in (("set", always), ("get", memory)):
            for connections, depth in GRID:
                cell = measure_cell(cluster, redis, mode, connections, depth, options)
                print_cell(mode, connections, depth, cell)
                cells[mode, connections, depth] = cell
    finally:
        always.stop()
        memory.stop()
    return cells


# -- All of it -----------------------------------------------------------------------------------


def promises(cells, idle, times):
    """(what is promised, what was found, whether it holds)."""
    set_ratio, get_ratio = cells["set", 50, 16]["ratio"], cells["get", 50, 16]["ratio"]
    failover = statistics.median(times)
    return [
        (f"SET, 50 x 16: at least {SET_RATIO_MIN} of Redis with appendfsync always",
         f"{set_ratio:.2f}", set_ratio >= SET_RATIO_MIN),
        (f"GET, 50 x 16: at least {GET_RATIO_MIN} of Redis", f"{get_ratio:.2f}",
         get_ratio >= GET_RATIO_MIN),
        (f"failover: median of at most {FAILOVER_SECONDS_MAX * 1e3:.0f} ms",
         f"{failover * 1e3:.0f} ms", failover <= FAILOVER_SECONDS_MAX),
        (f"an idle cluster of three: less than {IDLE_SHARE_MAX * 100:.0f} % of a core",
         f"{idle * 100:.2f} %", idle < IDLE_SHARE_MAX),
    ]


def measure(options, directory):
    with Cluster(options.build, 3, directory=directory) as cluster:
        cluster.start()
        describe_machine(cluster.directory)
        print(f"flush     {cluster.leader().status()['flush']}; three nodes, one Redis and the "
              f"load share the machine; medians of {options.rounds} runs of {options.seconds:g} s")
        cells = measure_grid(cluster, cluster.directory, options)
        memory = [rss_bytes(node.pid) / (1 << 20) for node in cluster.nodes]
        idle = measure_idle(cluster)
        times = time_failovers(cluster, options.kills)
        print()
        print("memory    resident, MiB a node:", *(f"{size:.0f}" for size in memory))
        print(f"idle      three nodes: {idle * 100:.2f} % of a core")
        print(f"failover  {options.kills} kills: {describe_times(times)}")
    return promises(cells, idle, times)


def find_tools(build):
    missing = [name for name in ("redis-server", "redis-benchmark") if not shutil.which(name)]
    if missing:
        raise Refusal(f"{' and '.join(missing)} must be installed (packages redis-server and "
                      "redis-tools)")
    for program in ("server/raftkv-server", "tests/bench/raftkv-bench"):
        if not (build / program).is_file():
            raise Refusal(f"'{build / program}' is not built")


def find_directory(wanted, build):
    """A place on a real disk: on tmpfs a flush costs nothing, and every number would be a lie."""
    directory = pathlib.Path(wanted or build).resolve()
    if not directory.is_dir():
        raise Refusal(f"--dir '{directory}' is not a directory")
    kind = file_system(directory)
    if kind in MEMORY_FILE_SYSTEMS:
        raise Refusal(f"'{directory}' is on {kind}, where nothing is durable: "
                      "name a directory on a disk with --dir")
    return directory


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--dir", help="where data goes, on a disk (the build directory)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one run (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (%(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="failovers (%(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a promise is broken")
    options = parser.parse_args()
    if options.seconds <= 0 or options.rounds < 1 or options.kills < 1:
        parser.error("--seconds, --rounds and --kills must be above 0")
    options.build = options.build.resolve()
    return options


def main():
    options = parse_arguments()
    raise_descriptor_limit()
    try:
        find_tools(options.build)
        found = measure(options, find_directory(options.dir, options.build))
    except (Refusal, Failure) as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 2
    print()
    for promise, value, holds in found:
        print(f"{'kept' if holds else 'BROKEN':7} {promise}: {value}")
    return 1 if options.check and not all(holds for _, _, holds in found) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Tasks over HTTP: one a request and in bulks, beside an empty Serve route; both of its proxies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.budgets import judge
from benchmarks.common import Document, Settings, median, ratios
from benchmarks.http_edge import LINES, OFTEN_S, SCRAPE_S, Measured, Report

ROOT = Path(__file__).parent.parent
#: its own name for each way that Serve takes requests in
MODES = {"proxy": "Python proxy", "haproxy": "HAProxy"}
#: what `--only` picks
PARTS = tuple(MODES)
PATIENCE_S = 900.0


def needed() -> str | None:
    """What this machine lacks for a namespace in which HAProxy may listen; None if nothing."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        return "needs root, unshare and iproute2: HAProxy listens on every interface"
    return None


def proxy_environment(mode: str, own: str) -> dict[str, str]:
    """What tells Serve which way to take requests in; `own` is a directory for HAProxy's files.

    They are at fixed paths by default, which another cluster may be using.
    """
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1" if mode == "haproxy" else "0",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{own}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{own}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": own,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{own}/server-state",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{own}/metrics.sock",
        # nobody is left to be drained when it ends
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }


def _measure(mode: str, settings: Settings) -> Report:
    """Run one edge in a network namespace that has nothing but a loopback."""
    with tempfile.TemporaryDirectory(prefix="chp") as own:
        environment = {**os.environ, **proxy_environment(mode, own)}
        command = [sys.executable, "-m", "benchmarks.http_edge", msgspec.json.encode(settings)]
        inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        done = subprocess.run(
            [*inside, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
            timeout=PATIENCE_S, check=True,
        )  # fmt: skip
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Report)


def _keep(document: Document, mode: str, report: Report) -> None:
    for what, title in _TITLES.items():
        for connections in sorted({one.connections for one in report.measured if one.what == what}):
            found = _of(report, what, connections)
            name = f"{MODES[mode]}: {title}, {connections} at once"
            if what in ("bulk", "scraped"):
                document.add(f"{name}: accepted", "/s", [one.lines_per_s for one in found])
                document.add(f"{name}: ended", "/s", [one.ended_per_s for one in found])
            else:
                document.add(name, "/s", [one.rate for one in found])
                document.add(f"{name}: median time", "ms", [one.latency_ms for one in found])
            document.add(f"{name}: CPU of the edge a request", "ms", [one.cpu_ms for one in found])
            if what not in ("empty", "read", "paced"):
                document.add(
                    f"{name}: CPU of the swarm a request", "ms", [one.swarm_ms for one in found]
                )
    if report.refused:
        document.note(f"{MODES[mode]}: {report.refused} lines were refused for a full queue")


_TITLES = {
    "empty": "empty route", "read": "empty route that reads its body",
    "paced": "empty route that reads its body, at the rate of tasks",
    "single": "one task a request", "bulk": f"bulks of {LINES:,} tasks",
    "scraped": f"bulks of {LINES:,} tasks, /metrics each {OFTEN_S:g} s",
}  # fmt: skip


def _of(report: Report, what: str, connections: int) -> list[Measured]:
    return [one for one in report.measured if (one.what, one.connections) == (what, connections)]


def _compare(report: Report, what: str) -> tuple[float, str]:
    """Processor time of one task a request, in that of an empty route; and both as they are."""
    single, empty = _of(report, "single", 32), _of(report, what, 32)
    cost = ratios([one.cpu_ms for one in single], [one.cpu_ms for one in empty])
    return median(cost), (
        f"{median([one.cpu_ms for one in single]):.2f} ms beside"
        f" {median([one.cpu_ms for one in empty]):.2f} ms, 32 at once, n={len(cost)};"
        f" {median([one.rate for one in single]):.0f}/s beside"
        f" {median([one.rate for one in empty]):.0f}/s"
    )


def _judge(document: Document, mode: str, report: Report) -> None:
    for what, which in (("read", ""), ("paced", ", at the same rate")):
        cost, how = _compare(report, what)
        judge(document, "http_single", MODES[mode] + which, cost, how)
    cost, how = _compare(report, "empty")
    document.note(
        f"{MODES[mode]}: of an empty route that leaves its body unread, which spares Serve to bring"
        f" it, one task a request costs {cost:.2f} ×: {how}"
    )
    if mode == "haproxy":
        ended = [one.ended_per_s for one in _of(report, "bulk", 4)]
        accepted = [one.lines_per_s for one in _of(report, "bulk", 4)]
        judge(
            document, "http_bulk", MODES[mode], median(ended),
            f"to the last outcome; accepted {median(accepted):,.0f}/s; 4 at once, n={len(ended)}",
        )  # fmt: skip
    beside = [one.ended_per_s for one in _of(report, "bulk", 4)]
    scraped = ratios([one.ended_per_s for one in _of(report, "scraped", 4)], beside)
    lost = 100 * (1 - median(scraped))
    judge(
        document, "http_metrics", MODES[mode], max(lost, 0.0) * OFTEN_S / SCRAPE_S,
        f"throughput of bulks with a look each {OFTEN_S:g} s is {median(scraped):.3f} of that"
        f" without ({min(scraped):.3f} – {max(scraped):.3f}, n={len(scraped)}): a tenth of what is"
        f" lost, for a look each {SCRAPE_S:g} s; {report.scrape_ms:.1f} ms of CPU a look",
    )  # fmt: skip


def run(document: Document, settings: Settings) -> None:
    """Each proxy in turn, in a namespace of its own. Raises RuntimeError without root."""
    if missing := needed():
        raise RuntimeError(missing)
    for mode in settings.only or MODES:
        report = _measure(mode, settings)
        _keep(document, mode, report)
        _judge(document, mode, report)

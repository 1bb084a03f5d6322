"""`chimera up`: bring a swarm up, with a Ray of its own if there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import click

from chimera.cli import head
from chimera.cli.output import Output, address_option, command
from chimera.cli.status import plain, show
from chimera.client.address import Where, resolve
from chimera.config import load_spec
from chimera.errors import ChimeraError, WaitTimeout
from chimera.swarm.reports import RegionReport, SwarmStatus
from chimera.swarm.spec import Spec

T = TypeVar("T")

#: brings something up in the Ray cluster there, within seconds, and says how far it is
Boot: TypeAlias = Callable[[Spec, Where, float, Callable[[str], None]], T]

#: looked for in the working directory if no file is given
DEFAULT_FILE = "chimera.yaml"
#: seconds on top of which a swarm counts as not coming up
UP_TIMEOUT_S = 60.0


def spec_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`-f FILE`."""
    return click.option(
        "-f", "--file", "path", type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help=f"The swarm's spec. [default: {DEFAULT_FILE} here]",
    )(function)  # fmt: skip


def dashboard_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--dashboard`."""
    text = "Give a Ray that is started here its dashboard, on loopback; costs some seconds."
    return click.option("--dashboard", is_flag=True, help=text)(function)


@command(of_a_swarm=False)
@spec_option
@address_option
@click.option("--timeout", default=UP_TIMEOUT_S, show_default=True, help="Seconds to be ready in.")
@dashboard_option
@click.option("--region", default="", help="Bring up only this region, which has a link, here.")
def up(
    out: Output,
    path: Path | None,
    address: str | None,
    timeout: float,
    dashboard: bool,
    region: str,
) -> None:
    """Bring a swarm up, or a living one to a changed spec.

    Without an address it starts a Ray of its own on this machine, which `chimera down` ends. To
    do it again changes nothing.

    A region with a `link` lives in a Ray cluster of its own: bring it up there by --region, with
    the same spec; the swarm's orchestrator, elsewhere, then steers it over its link.

    \b
    Examples:
      chimera up -f swarm.yaml
    """
    began = time.monotonic()
    spec = read_spec(path)
    if region:
        report = bring_up(out, spec, address, timeout, dashboard, _boot_region(region))
        took = time.monotonic() - began
        seconds = round(took, 3)
        found = {"region": plain(report), "seconds": seconds}
        out.result(found, lambda: out.note(f"region {region} is ready in {took:.1f} s"))
        return
    status = bring_up(out, spec, address, timeout, dashboard, boot)
    took = time.monotonic() - began

    def say() -> None:
        show(out, status)
        out.note(f"ready in {took:.1f} s; `chimera down --swarm {spec.name}` ends it")

    out.result({"swarm": plain(status), "seconds": round(took, 3)}, say)


def read_spec(path: Path | None) -> Spec:
    """The spec in a file, or in the default one."""
    if path is None:
        path = Path(DEFAULT_FILE)
        if not path.is_file():
            raise click.UsageError(f"there is no {DEFAULT_FILE} here: say which spec by -f FILE")
    return load_spec(path)


def bring_up(
    out: Output,
    spec: Spec,
    address: str | None,
    timeout_s: float,
    dashboard: bool,
    boot: Boot[T],
) -> T:
    """Bring the swarm, or a part of it, up.

    A Ray that was begun for it ends again if it cannot come up at all.
    """
    where = resolve(spec.name, address)
    is_own = False
    with out.step(f"bringing up {spec.name}") as change:

        def say(text: str) -> None:
            change(text)
            out.note(f"  {text}")

        if where is None:
            begun, is_own = head.begin(spec.name, Path(spec.data_dir), dashboard, say)
            where = Where(begun.address, "its own head", begun.environment)
        try:
            return boot(spec, where, timeout_s, say)
        except WaitTimeout:
            raise  # it goes on starting
        except BaseException:
            if is_own:
                _leave()
                head.end(spec.name)
            raise


def boot(spec: Spec, where: Where, timeout_s: float, say: Callable[[str], None]) -> SwarmStatus:
    """Bring the swarm up in the Ray cluster there."""
    from chimera.actors import boot
    from chimera.client.link import join_ray

    boot.check_version()
    join_ray(spec.name, where)
    if spec.http is not None:
        from chimera.serve import deployment

        deployment.check(spec.http)  # before all else is made, to be taken down again
    found = boot.up(spec, timeout_s=timeout_s, on_progress=say)
    if spec.http is not None:
        say(f"the gateway is at {deployment.up(spec.name, spec.http, say)}")
    return found


def _boot_region(region: str) -> Boot[RegionReport]:
    def boot(
        spec: Spec, where: Where, timeout_s: float, say: Callable[[str], None]
    ) -> RegionReport:
        from chimera.actors import boot
        from chimera.client.link import join_ray

        boot.check_version()
        join_ray(spec.name, where)
        return boot.up_region(spec, region, timeout_s=timeout_s, on_progress=say)

    return boot


def _leave() -> None:
    import ray

    ray.shutdown()


__all__ = ["ChimeraError", "bring_up", "read_spec", "up"]

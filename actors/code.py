"""How actors that outlive the program that made them find Chimera and the user's modules.

Three cases, none of which asks the user for anything:

- *Installed* packages are there on every node, by the image or the environment.
- A *plain program* (`chimera up`, a script): Ray keeps the program's directory and its working
  directory in the search path of everything that comes of it, restarts after its end included
  (tried with 2.60). Whatever else is in its search path is handed on as PYTHONPATH, which each
  actor passes to those that it makes; that costs each process about a second at its start, so
  that it is done only when needed.
- A *submitted job* (`ray job submit --working-dir`) or a program with a runtime environment of its
  own says itself what travels: its packages are kept as long as an actor that came of it lives.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from typing import Any

import ray

#: keys of a runtime environment that bring code along
_BRINGS_CODE = ("working_dir", "py_modules", "pip", "uv", "conda", "image_uri", "container")


def options() -> dict[str, Any]:
    """Ray's options for the first actors of a swarm."""
    environment = dict(ray.get_runtime_context().runtime_env)
    if any(environment.get(key) for key in _BRINGS_CODE):
        return {}
    own = own_path(sys.path)
    if set(own) <= set(_kept_by_ray()):
        return {}
    variables = {**environment.get("env_vars", {}), "PYTHONPATH": os.pathsep.join(own)}
    return {"runtime_env": {"env_vars": variables}}


def own_path(path: list[str]) -> list[str]:
    """The directories of a search path that are no part of the Python installation, in order."""
    installed = {os.path.realpath(one) for one in sysconfig.get_paths().values()}
    found: dict[str, None] = {}
    for entry in path:
        directory = os.path.abspath(entry or os.curdir)
        parts = directory.split(os.sep)
        if (
            os.path.isdir(directory)
            and "site-packages" not in parts
            and "dist-packages" not in parts
            and os.path.realpath(directory) not in installed
            and os.path.realpath(os.path.dirname(directory)) not in installed  # lib-dynload
        ):
            found[directory] = None
    return list(found)


@contextlib.contextmanager
def as_actors_see() -> Iterator[None]:
    """Search the working directory first, as actors do; a console script does not by itself."""
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _kept_by_ray() -> tuple[str, ...]:
    program = os.path.dirname(os.path.realpath(sys.argv[0]))
    return program, os.getcwd()

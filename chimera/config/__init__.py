"""What a person declares and sets: specs from YAML, CHIMERA_* variables, and every default."""

from __future__ import annotations

from chimera.config.environment import Environment, environment
from chimera.config.settings import defaults_table
from chimera.config.specs import load_spec, make_spec, parse_spec
from chimera.swarm.spec import Spec, from_dict, to_dict

__all__ = [
    "Environment",
    "Spec",
    "defaults_table",
    "environment",
    "from_dict",
    "load_spec",
    "make_spec",
    "parse_spec",
    "to_dict",
]

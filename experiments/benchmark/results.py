"""What was measured, a JSON file a machine; each question has a section with its command, settings and versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.benchmark import machine
from experiments.benchmark.settings import Settings
from jaxgan.config import Config, InputError, leaves
from jaxgan.presets import PRESETS

FORMAT = 1
FOLDER = Path(__file__).parent / "results"


def add(folder: Path, facts: Mapping[str, Any], sections: Mapping[str, Any]) -> Path:
    """Puts sections into the file of a machine, over those of the same name, and returns its path.

    Raises:
        InputError: The file is there and is of another format.
    """
    path = folder / f"{machine.name(facts)}.json"
    fixed = ("processor", "cores", "memory_gb", "system", "device")
    found = read(path) if path.exists() else {"format": FORMAT, "machine": {}, "sections": {}}
    found["machine"] = {name: facts[name] for name in fixed}
    found["sections"] |= sections
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded(found), indent=1) + "\n")
    return path


def section(command: str, settings: Settings, facts: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """A section: what was found, and by which command, settings, versions, thread settings and presets."""
    ran = {name: facts[name] for name in ("python", "versions", "thread_variables")}
    presets = {system: preset_digest(system) for system in systems_of(found)}
    return {"command": command, "settings": asdict(settings), **ran, "presets": presets, "found": dict(found)}


def systems_of(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The presets that a question was answered for; those of sizes and starts are `vanilla` alone."""
    return tuple(found.get("systems", (found.get("system", "vanilla"),)))


def preset_digest(system: str) -> str:
    """Stands for what a preset trains and draws: a figure of another one is no figure of today's."""
    usual, passing = dict(leaves(Config())), ("seed", "keep", "eval_every", "data.", "every.")
    trained = [
        (name, value)
        for name, value in leaves(PRESETS[system])
        if value != usual[name] and not name.startswith(passing)  # So a new field changes no digest.
    ]
    return hashlib.sha256(repr(trained).encode()).hexdigest()[:8]


def outdated(section: Mapping[str, Any]) -> list[str]:
    """The presets of a section that have changed since it was measured, or of which it says nothing."""
    known = section.get("presets", {})
    return [system for system in systems_of(section["found"]) if known.get(system) != preset_digest(system)]


def read(path: Path) -> dict[str, Any]:
    """A machine's file.

    Raises:
        InputError: It is damaged or of another format.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as results of the benchmark: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{path} is not of format {FORMAT}: measure anew, or delete it")
    return found


def rounded(value: Any) -> Any:
    """The same tree with floats of six digits, which is more than any timing has."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, (list, tuple)) else value

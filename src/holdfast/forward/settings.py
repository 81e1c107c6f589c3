"""From the settings of the component to targets. The configuration has checked them (:mod:`holdfast.config.forward`); secrets are looked up here.

A secret that is not there breaks its target only: the others go on, and it is said why.
"""

import os
from urllib.parse import unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class BrokenError(Exception):
    """A target cannot be used: its secret is not there, or is none."""


class Wanted:
    """One target, as somebody wants it."""

    __slots__ = ("given", "has_house", "has_incidents", "name", "sort", "workers")

    def __init__(self, name: str, given: "Mapping[str, Any]") -> None:
        self.name = name
        self.given = given
        self.sort = str(given["type"])
        has_logs = given.get("logs", True)
        self.workers: list[str] = list(given.get("workers", ["*"])) if has_logs else []
        self.has_house = bool(has_logs and given.get("house", True))
        self.has_incidents = bool(given.get("incidents", True))


def read(raw: "Mapping[str, Any]") -> "list[Wanted]":
    """Return the targets of the settings."""
    return [Wanted(str(name), given) for name, given in raw.get("target", {}).items()]


def headers(given: "Mapping[str, Any]", environ: "Mapping[str, str]") -> "dict[str, str]":
    """Return the headers of a target, with its secrets.

    Raises:
        BrokenError: One of them is not there.
    """
    found = {str(key): str(value) for key, value in given.get("headers", {}).items()}
    for pair in secret(given, "headers", environ).split(","):
        if pair.strip():
            # As OTEL_EXPORTER_OTLP_HEADERS has it.
            key, equals, value = pair.partition("=")
            if not equals:
                raise BrokenError("headers: they have to be written as name=value,name=value")
            found[key.strip()] = unquote(value.strip())
    bearer = secret(given, "bearer", environ)
    if bearer:
        found["Authorization"] = f"Bearer {bearer}"
    for value in found.values():
        if not value.isprintable():
            raise BrokenError("headers: there is a letter in them that no header may have")
    return found


def endpoint(given: "Mapping[str, Any]", environ: "Mapping[str, str]") -> str:
    """Return the address of a target.

    Raises:
        BrokenError: It is not there, or is none.
    """
    found = str(given.get("url") or secret(given, "url", environ))
    if not found.startswith(("http://", "https://")):
        raise BrokenError("url: it has to begin with http:// or https://")
    return found


def secret(given: "Mapping[str, Any]", key: str, environ: "Mapping[str, str]") -> str:
    """Return a secret; empty when none is named.

    Raises:
        BrokenError: It is named, but not there.
    """
    name, path = given.get(f"{key}_env"), given.get(f"{key}_file")
    if name:
        found = environ.get(name, "").strip()
        if not found:
            raise BrokenError(f"{key}_env: the environment variable {name} is not set")
        return found
    if path:
        try:
            with open(os.path.expanduser(path), encoding="utf-8") as file:
                found = file.read().strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "is not a text"
            raise BrokenError(f"{key}_file: {path}: {why}") from None
        if not found:
            raise BrokenError(f"{key}_file: {path}: is empty")
        return found
    return ""

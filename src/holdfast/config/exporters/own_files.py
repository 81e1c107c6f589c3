"""Which files of the configuration may be in a cluster, so that a changed one needs no new image? And how do they get there?

A ConfigMap, mounted file by file over those of the image. It is no place for secrets: where a value in the files looks like one, nothing of them is written, and
the same keys are asked for from a Secret that a person makes of the files. What is read is the text as it stands, so ``${NAME}`` is no secret. Leaves out the manifest
around it (:mod:`holdfast.config.exporters.kubernetes`).
"""

import hashlib
import os
import re
import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple

from holdfast.config.exporters import image
from holdfast.config.exporters.sheet import IN_URL, OPTION, SHORTEST_SECRET, Node, is_secret
from holdfast.config.problems import Problems
from holdfast.config.reading import read_all

#: Of a ConfigMap: all its data together. https://kubernetes.io/docs/concepts/configuration/configmap/
LARGEST_BYTES = 1 << 20
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}")
_NO_KEY = re.compile(r"[^A-Za-z0-9._-]+")


class OwnFiles(NamedTuple):
    """The files of a configuration, as a ConfigMap has them."""

    texts: dict[str, str]  #: by key; empty where they may not be written
    paths: dict[str, str]  #: key -> path inside of the container
    sources: dict[str, str]  #: key -> path on this machine
    secrets: tuple[str, ...]  #: where something stands that looks like a secret

    @property
    def digest(self) -> str:
        """Another one for other texts: a pod of old texts is replaced."""
        whole = "\0".join(f"{key}\0{text}" for key, text in sorted(self.texts.items()))
        return hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def own_files(given: Node) -> tuple[OwnFiles, list[str]]:
    """Return the files, and notes about those that stay in the image."""
    texts: dict[str, str] = {}
    paths: dict[str, str] = {}
    sources: dict[str, str] = {}
    secrets: list[str] = []
    notes: list[str] = []
    if not given.config.endswith(".toml"):
        says = f"configuration: {os.path.basename(given.config)} is Crossbar.io's, and stays in the image"
        return OwnFiles({}, {}, {}, ()), [says]
    # What is wrong in it was said when it was loaded.
    for document in read_all(given.config, given.environ, Problems()):
        path = image.inside(given, os.path.abspath(document.path))
        if path is None:
            notes.append(f"configuration: {document.path} is outside of the node's directory: has the image got it there?")  # fmt: skip
            continue
        key = _free(_NO_KEY.sub("-", os.path.relpath(path, image.root(given))), texts)
        texts[key], paths[key], sources[key] = document.text, path, document.path
        secrets += _secrets(tomllib.loads(document.text), "", given)
    size = sum(len(text.encode("utf-8", "surrogateescape")) for text in texts.values())
    if size > LARGEST_BYTES:
        notes.append(f"configuration: {size} bytes are more than a ConfigMap takes (1 MiB): it stays in the image")  # fmt: skip
        return OwnFiles({}, {}, {}, ()), notes
    return OwnFiles({} if secrets else texts, paths, sources, tuple(dict.fromkeys(secrets))), notes


def _free(key: str, taken: dict[str, str]) -> str:
    number, free = 2, key
    while free in taken:
        free = f"{key}.{number}"
        number += 1
    return free


def _secrets(value: Any, place: str, given: Node) -> Iterator[str]:
    """Give the places of what looks like a secret."""
    if isinstance(value, dict):
        for name, below in value.items():
            where = f"{place}.{name}" if place else str(name)
            if is_secret(str(name)) and isinstance(below, str) and _stands_there(below):
                yield where
            else:
                yield from _secrets(below, where, given)
    elif isinstance(value, list):
        is_next = False
        for word in value:
            option = OPTION.fullmatch(word) if isinstance(word, str) else None
            if isinstance(word, str) and is_next and _stands_there(word):
                yield place
            is_next = option is not None and is_secret(option[1].replace("-", "_"))
            if is_next and option is not None and option[2] is not None:
                is_next = False
                if _stands_there(option[3]):
                    yield place
            yield from _secrets(word, place, given)
    elif isinstance(value, str) and _hides(value, given):
        yield place


def _stands_there(text: str) -> bool:
    """Whether there is more in it than variables."""
    return bool(_VARIABLE.sub("", text).strip())


def _hides(text: str, given: Node) -> bool:
    """Whether an address in it has a password, a command an option for one, or a secret of this environment stands in it."""
    if any(_stands_there(found[2]) for found in IN_URL.finditer(text)):
        return True
    for word in text.split():
        option = OPTION.fullmatch(word)
        if option and option[3] and is_secret(option[1].replace("-", "_")) and _stands_there(option[3]):  # fmt: skip
            return True
    return any(
        len(value) >= SHORTEST_SECRET and is_secret(name) and value in text
        for name, value in given.environ.items()
    )

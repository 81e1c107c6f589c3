"""A reader of OpenMetrics 1.0 and of Prometheus' text format 0.0.4 that forgives nothing, for the tests of whoever writes them.

After the grammar and the MUSTs of the OpenMetrics specification, and what `promtool check metrics` says of names.
"""

import math
import re
from dataclasses import dataclass, field

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[n"\\])*)"')
NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\d*\.\d+(?:[eE][+-]?\d+)?|[Ii]nf)|NaN")
SUFFIXES = {
    "counter": ("_total",), "gauge": ("",), "info": ("_info",), "summary": ("_count", "_sum"),
    "histogram": ("_bucket", "_count", "_sum"),
}  # fmt: skip
RESERVED = ("_total", "_count", "_sum", "_bucket", "_created", "_info", "_gsum", "_gcount")
NO_BASE_UNITS = ("_ms", "_milliseconds", "_minutes", "_kilobytes", "_megabytes", "_percent", "_ns")

Key = tuple[tuple[str, str], ...]


@dataclass
class Family:
    """One metric family as it was read."""

    name: str
    kind: str = ""
    unit: str = ""
    help: str = ""
    samples: list[tuple[str, Key, float]] = field(default_factory=list)  #: suffix, labels, value


@dataclass
class Exposition:
    """All of it."""

    families: dict[str, Family]

    def value(self, name: str, /, **labels: str) -> float | None:
        """The value of a sample by its full name; None: there is none."""
        for family in self.families.values():
            for suffix, key, value in family.samples:
                if family.name + suffix == name and dict(key) == labels:
                    return value
        return None

    def samples(self, name: str) -> dict[Key, float]:
        """All samples of a full name."""
        return {
            key: value
            for family in self.families.values()
            for suffix, key, value in family.samples
            if family.name + suffix == name
        }


def openmetrics(data: bytes) -> Exposition:
    """Read an exposition in OpenMetrics; anything that is not quite right is an AssertionError."""
    text = data.decode("utf-8")
    assert text.endswith("# EOF\n"), "its end is missing"
    lines = text.split("\n")[:-2]
    families = _families(lines, is_open=True)
    for family in families.values():
        assert family.kind in SUFFIXES, f"{family.name}: no type"
        assert family.help, f"{family.name}: no help"
        assert not family.unit or family.name.endswith("_" + family.unit), family.name
        _check(family)
        _lint(family)
    return Exposition(families)


def prometheus(data: bytes) -> Exposition:
    """Read an exposition in text format 0.0.4."""
    text = data.decode("utf-8")
    assert text.endswith("\n")
    assert "# EOF" not in text
    assert "# UNIT" not in text
    families = _families(text.split("\n")[:-1], is_open=False)
    for family in families.values():
        assert family.kind in ("counter", "gauge", "summary", "histogram"), family.name
        assert (family.kind == "counter") == family.name.endswith("_total")
    return Exposition(families)


def _families(lines: list[str], *, is_open: bool) -> dict[str, Family]:
    families: dict[str, Family] = {}
    now: Family | None = None
    for line in lines:
        assert line, "an empty line"
        assert "\r" not in line
        if line.startswith("#"):
            _, word, name, *rest = line.split(" ", 3)
            assert line.startswith(f"# {word} {name} "), line
            assert NAME.fullmatch(name), line
            if now is None or now.name != name:
                assert name not in families, f"{name}: in two places"
                now = families[name] = Family(name)
            assert not now.samples, f"{line}: after its samples"
            attribute = {"TYPE": "kind", "HELP": "help", "UNIT": "unit"}[word]
            assert not getattr(now, attribute), f"{line}: twice"
            setattr(now, attribute, rest[0])
            if word == "HELP":
                assert not re.search(r'\\[^n\\"]|(?<!\\)"' if is_open else r"\\[^n\\]", rest[0])
            continue
        assert now is not None, f"{line}: without a family"
        full, key, value = _sample(line)
        assert full.startswith(now.name), f"{line}: in the family {now.name}"
        suffix = full[len(now.name) :]
        if is_open:
            assert suffix in SUFFIXES[now.kind], line
        else:
            assert suffix == "" or now.kind in ("summary", "histogram"), line
        now.samples.append((suffix, key, value))
    for family in families.values():
        seen = [(suffix, key) for suffix, key, _ in family.samples]
        assert len(seen) == len(set(seen)), f"{family.name}: a series twice"
        assert seen, f"{family.name}: empty"
    return families


def _sample(line: str) -> tuple[str, Key, float]:
    name = NAME.match(line)
    assert name, line
    at, pairs = name.end(), []
    if line[at] == "{":
        at += 1
        while True:
            label = LABEL.match(line, at)
            assert label, line
            word = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label[2])
            pairs.append((label[1], word))
            at = label.end() + 1
            if line[at - 1] == "}":
                break
            assert line[at - 1] == ",", line
    assert line[at] == " ", line
    number = line[at + 1 :]
    assert NUMBER.fullmatch(number), line
    assert len({label for label, _ in pairs}) == len(pairs), line
    return name[0], tuple(pairs), float(number)


def _check(family: Family) -> None:
    """What the type of a family demands of its values."""
    order = [tuple(p for p in key if p[0] != "le") for _, key, _ in family.samples]
    runs = [key for at, key in enumerate(order) if at == 0 or order[at - 1] != key]
    assert len(runs) == len(set(runs)), f"{family.name}: the samples of a metric are apart"
    for suffix, _, value in family.samples:
        if family.kind != "gauge":
            assert value >= 0
            assert math.isfinite(value)
        if family.kind == "info":
            assert value == 1
        if suffix in ("_count", "_bucket"):
            assert value == int(value)
    if family.kind == "histogram":
        for metric in set(order):
            mine = [
                (suffix, dict(key).get("le"), value)
                for suffix, key, value in family.samples
                if tuple(p for p in key if p[0] != "le") == metric
            ]
            buckets = [(float(le or "nan"), value) for suffix, le, value in mine if suffix == "_bucket"]  # fmt: skip
            count = next(value for suffix, _, value in mine if suffix == "_count")
            assert buckets == sorted(buckets)
            assert [v for _, v in buckets] == sorted(v for _, v in buckets)
            assert buckets[-1] == (math.inf, count)


def _lint(family: Family) -> None:
    """What promtool says of a name."""
    assert not family.name.endswith(RESERVED), family.name
    assert not family.name.endswith(NO_BASE_UNITS), family.name
    assert not re.search(r"[A-Z]|__|_(gauge|counter|histogram|summary)(_|$)", family.name)
    for unit in ("seconds", "bytes"):
        assert (family.unit == unit) == family.name.endswith("_" + unit), family.name

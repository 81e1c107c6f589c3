"""How are figures written for Prometheus and for all that reads OpenMetrics, and which of the formats does a reader want?

Families of samples in, text out: OpenMetrics 1.0 (types, units, ``# EOF``), Prometheus' own text format 0.0.4, or JSON values. What there
is to tell about a node is in :mod:`holdfast.records.metrics`; this module knows nothing of nodes. Left out: protobuf, exemplars, time
stamps (Prometheus takes that of the scrape), and ``_created`` (Prometheus stores it as one more series each).
"""

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Sample = tuple[str, "Labels", float]  #: suffix after the family's name, labels, value

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
JSON = "application/json; charset=utf-8"

COUNTER, GAUGE, INFO, SUMMARY, HISTOGRAM = "counter", "gauge", "info", "summary", "histogram"

#: What the only sample of a metric is called after the family's name.
_SUFFIXES = {COUNTER: "_total", INFO: "_info"}
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})


class Labels:
    """What is counted; written once, for the same labels stand in twenty families, a thousand times each."""

    __slots__ = ("pairs", "text")

    def __init__(self, *pairs: "tuple[str, str]") -> None:
        self.pairs = pairs
        shown = ",".join([f'{key}="{word.translate(_ESCAPES)}"' for key, word in pairs])
        self.text = f"{{{shown}}}" if shown else ""

    def plus(self, *pairs: "tuple[str, str]") -> "Labels":
        """Return these labels and some more."""
        return Labels(*self.pairs, *pairs)


NO_LABELS = Labels()


class Family:
    """Figures of one meaning: a name, what it counts, and a sample for each thing that is counted."""

    __slots__ = ("help", "kind", "name", "samples", "suffix", "unit")

    def __init__(self, name: str, kind: str, unit: str, says: str) -> None:
        self.name = name  #: without ``_total`` and the like
        self.kind = kind
        self.unit = unit  #: "" or what the name ends with
        self.help = says
        self.suffix = _SUFFIXES.get(kind, "")
        self.samples: list[Sample] = []

    def add(self, labels: "Labels", value: "float | None", suffix: str = "") -> None:
        """Add a sample; None is not known, and a series that is not there says so better than a zero.

        What a counter cannot be (not a number, below zero) is left out, too: one such value makes readers refuse all of it.
        """
        if value is None or (
            self.kind not in (GAUGE, INFO) and not (value >= 0 and math.isfinite(value))
        ):
            return
        self.samples.append((suffix or self.suffix, labels, value))


def openmetrics(families: "list[Family]") -> bytes:
    """Return a whole exposition in OpenMetrics 1.0; families without samples are left out."""
    lines: list[str] = []
    for family in families:
        if family.samples:
            lines.append(f"# TYPE {family.name} {family.kind}\n")
            if family.unit:
                lines.append(f"# UNIT {family.name} {family.unit}\n")
            lines.append(f"# HELP {family.name} {family.help.translate(_ESCAPES)}\n")
            lines += _samples(family)
    lines.append("# EOF\n")
    return "".join(lines).encode("utf-8", "replace")


def prometheus(families: "list[Family]") -> bytes:
    """Return a whole exposition in Prometheus' text format 0.0.4."""
    lines: list[str] = []
    for family in families:
        if family.samples:
            # Here the name of a counter has its ending everywhere, and there is no type "info".
            name = family.name + family.suffix
            kind = GAUGE if family.kind == INFO else family.kind
            says = family.help.replace("\\", "\\\\").replace("\n", "\\n")
            lines.append(f"# HELP {name} {says}\n# TYPE {name} {kind}\n")
            lines += _samples(family)
    return "".join(lines).encode("utf-8", "replace")


def _samples(family: Family) -> "list[str]":
    name = family.name
    return [
        f"{name}{suffix}{labels.text} {value if type(value) is int else _number(value)}\n"
        for suffix, labels, value in family.samples
    ]


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def values(families: "list[Family]") -> "list[dict[str, Any]]":
    """Return the families as JSON values; what JSON has no number for is null."""
    return [
        {
            "name": family.name,
            "type": family.kind,
            "unit": family.unit,
            "help": family.help,
            "samples": [
                {
                    "name": family.name + suffix,
                    "labels": dict(labels.pairs),
                    "value": value if math.isfinite(value) else None,
                }
                for suffix, labels, value in family.samples
            ],
        }
        for family in families
        if family.samples
    ]


def negotiate(accept: str) -> str:
    """Return the content type that fits an ``Accept`` header best.

    OpenMetrics only for who names it (a browser would save it to a file), in whichever version: there is one here. Whoever wants
    something else gets Prometheus' text, as from other exporters: some readers ask for odd things and take that.
    """
    wanted: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = _quality(value)
        wanted[kind] = max(quality, wanted.get(kind, 0.0))
    plain = max(wanted.get(kind, 0.0) for kind in ("text/plain", "text/*"))
    open_one, json = wanted.get("application/openmetrics-text", 0.0), wanted.get("application/json", 0.0)  # fmt: skip
    if open_one > 0 and open_one >= max(plain, json):
        return OPENMETRICS
    return JSON if json > plain else PROMETHEUS


def _quality(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return min(1.0, max(0.0, found)) if math.isfinite(found) else 0.0

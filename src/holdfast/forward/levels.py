"""How grave does a line say that it is?

Programs write it in a handful of ways: ``level=error`` (Holdfast's own components), ``"level": "warning"`` (JSON), ``ERROR:name:`` and ``[ERROR]``
(logging), ``<3>`` (sd-daemon). Nothing is guessed from other words: a line that does not say is information, on stderr, too, where most
programs write all of their log. Pure.
"""

import itertools

DEBUG, INFO, NOTICE, WARNING, ERROR, CRITICAL = (
    "debug", "info", "notice", "warning", "error", "critical",
)  # fmt: skip

#: As syslog and journald count.
PRIORITIES = {DEBUG: 7, INFO: 6, NOTICE: 5, WARNING: 4, ERROR: 3, CRITICAL: 2}
#: As OpenTelemetry counts; a notice has a number between information and warning.
SEVERITIES = {DEBUG: 5, INFO: 9, NOTICE: 10, WARNING: 13, ERROR: 17, CRITICAL: 21}

_WORDS = {
    "trace": DEBUG, "debug": DEBUG, "info": INFO, "information": INFO, "notice": NOTICE, "warn": WARNING, "warning": WARNING,
    "err": ERROR, "error": ERROR, "critical": CRITICAL, "crit": CRITICAL, "fatal": CRITICAL, "alert": CRITICAL,
    "emerg": CRITICAL, "panic": CRITICAL,
}  # fmt: skip
_BY_NUMBER = [CRITICAL, CRITICAL, CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG]
#: A level stands at the beginning of a line: behind a time stamp at the most.
_LOOKED_AT = 160
_AROUND = "[]():,|<>\"'{}"


def level_of(text: str) -> str:
    """Return the level that a line names, or else "info"."""
    head = text[:_LOOKED_AT]
    if len(head) > 2 and head[0] == "<" and head[2] == ">" and head[1] in "01234567":
        return _BY_NUMBER[int(head[1])]
    for key in ("level=", '"level":', '"levelname":', '"severity":', "severity="):
        at = head.find(key)
        if at >= 0:
            rest = head[at + len(key) :].lstrip(' "')
            return _WORDS.get("".join(itertools.takewhile(str.isalpha, rest)).lower(), INFO)
    # Words in capitals only: "error" in a sentence is a sentence.
    for word in head.replace(":", " ").split()[:9]:
        bare = word.strip(_AROUND)
        if bare.isupper() and bare.lower() in _WORDS:
            return _WORDS[bare.lower()]
    if head.startswith("Traceback (most recent call last)") or "Fatal Python error: " in head:
        return ERROR
    return INFO

"""Which keys did a person press? Bytes of a terminal in, names out.

Pure. Knows what xterm, tmux, the Linux console and their relatives send; a sequence that is not known is left out, so
that it never becomes letters that order something. Leaves out what a key does.
"""

ESCAPE = b"\x1b"

_SEQUENCES = {
    b"[A": "up", b"[B": "down", b"[C": "right", b"[D": "left", b"[H": "home", b"[F": "end",
    b"OA": "up", b"OB": "down", b"OC": "right", b"OD": "left", b"OH": "home", b"OF": "end",
    b"[1~": "home", b"[4~": "end", b"[5~": "pgup", b"[6~": "pgdn", b"[7~": "home", b"[8~": "end",
    b"OP": "?", b"[11~": "?", b"[[A": "?",
}  # fmt: skip
_PLAIN = {
    "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\t": "tab", "\x0c": "redraw",
    "\x02": "pgup", "\x06": "pgdn", "\x15": "clear", "\x04": "q",
}  # fmt: skip


def split(data: bytes) -> "tuple[list[str], bytes]":
    """Return the names of the keys, and the bytes of one that has not come whole yet.

    A lone escape byte is such a rest: what follows tells whether it was the key of that name (:func:`flush`).
    """
    names: list[str] = []
    at = 0
    while at < len(data):
        if data[at] == 0x1B:
            end = _end(data, at)
            if end < 0:
                return names, data[at:]
            if end == at + 1:
                names.append("esc")
            else:
                known = _SEQUENCES.get(data[at + 1 : end])
                names += [known] if known else []
            at = end
            continue
        size = _size(data[at])
        if at + size > len(data):
            return names, data[at:]
        text = data[at : at + size].decode("utf-8", "replace")
        name = _PLAIN.get(text, text if text.isprintable() else "")
        if name:
            names.append(name)
        at += size
    return names, b""


def flush(rest: bytes) -> "list[str]":
    """Return what a rest means of which no more came."""
    return ["esc"] if rest[:1] == ESCAPE else []


def _end(data: bytes, at: int) -> int:
    """Return where the sequence ends that begins at ``at``; -1 when it has not come whole."""
    if at + 1 >= len(data):
        return -1
    kind = data[at + 1 : at + 2]
    if kind == b"O":
        return at + 3 if at + 2 < len(data) else -1
    if kind != b"[":
        return at + 1  # the key itself, and something else behind it
    place = at + 2
    if data[place : place + 1] == b"[":  # function keys of the Linux console
        return place + 2 if place + 1 < len(data) else -1
    while place < len(data):
        if 0x40 <= data[place] <= 0x7E:
            return place + 1
        place += 1
    return -1


def _size(first: int) -> int:
    return 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4

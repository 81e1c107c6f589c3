"""Who did what? The dashboard writes into the node's audit: :mod:`holdfast.records.audit`, where an assistant's actions are, too."""

from holdfast.records.audit import FILE, OWN_END, UNSEEN_END, Audit, read

__all__ = ["FILE", "OWN_END", "UNSEEN_END", "Audit", "read"]

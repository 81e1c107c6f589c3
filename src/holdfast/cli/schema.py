"""`holdfast schema`: what may be written into holdfast.toml, as a JSON Schema for editors."""

from holdfast.cli import output
from holdfast.config.schema import json_schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare no arguments: the global options are all there is."""
    del parser


def run(args: "Namespace") -> int:
    """Print the schema; it is JSON with and without ``--json``."""
    del args
    output.document(json_schema())
    return 0

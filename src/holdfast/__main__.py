import sys

from holdfast.cli.main import entry

sys.exit(entry())

"""Every error that Holdfast raises for a person to read.

    HoldfastError
    ├── UsageError        the command line is wrong                         exit 2
    ├── ConfigError       the configuration is wrong (all problems at once) exit 2
    ├── NodeError         the node cannot be reached, started or told       exit 1
    │   ├── NotRunning    there is no node on this state directory          exit 3
    │   └── AlreadyRunning                                                  exit 4
    └── StateError        something on disk is not what it has to be        exit 5

The message is what the person sees: where, what, and what to do.
"""


class HoldfastError(Exception):
    """Base of the tree; never raised itself."""

    exit_status = 1


class UsageError(HoldfastError):
    """The command line asks for something that does not exist or makes no sense."""

    exit_status = 2


class ConfigError(HoldfastError):
    """The configuration has problems; ``problems`` holds them all, in file order."""

    exit_status = 2

    def __init__(self, problems: "list[str]") -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NodeError(HoldfastError):
    """The node cannot be started, reached or told."""


class NotRunning(NodeError):  # noqa: N818 -- reads as what it says
    """There is no node on this state directory."""

    exit_status = 3


class AlreadyRunning(NodeError):  # noqa: N818 -- reads as what it says
    """A node already runs on this state directory."""

    exit_status = 4


class StateError(HoldfastError):
    """A file of the state directory is damaged, foreign, or from another version."""

    exit_status = 5

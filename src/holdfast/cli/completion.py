"""`holdfast completion SHELL`: the script that lets a shell complete our commands, options and worker names.

Made from the very parsers that read the command line, so it cannot go stale. Names of workers and incidents are
asked for at the moment (`holdfast __complete`). No library: argparse tells all there is to know.
"""

import argparse
import sys

from holdfast.cli import commands

#: What stands for a positional argument or an option's value: asked for at the moment of completion.
DYNAMIC = {
    "WORKER": "workers", "WORKER[/COMPONENT]": "targets", "ID": "incidents",
    "WORKER|INCIDENT": "subjects", "JID": "jids", "QUEUE": "queues", "WHERE": "places", "OWNER": "owners",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    parser.epilog = (
        'bash:  eval "$(holdfast completion bash)"        (in ~/.bashrc)\n'
        'zsh:   eval "$(holdfast completion zsh)"         (in ~/.zshrc, after compinit)\n'
        "fish:  holdfast completion fish | source          (in ~/.config/fish/config.fish)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    make = {"bash": bash, "zsh": zsh, "fish": fish}[args.shell]
    sys.stdout.write(make(describe()))
    return 0


class Described:
    """What one command takes: its options, which of them have a value and of which kind, and its words.

    A command with verbs (`holdfast jobs list`) is described once as itself and once for each verb, as "jobs list".
    """

    __slots__ = ("name", "options", "parent", "positional", "says", "values")

    def __init__(self, name: str, says: str, parent: str = "") -> None:
        self.name = name
        self.says = says
        self.parent = parent  #: the command whose verb it is
        self.options: list[tuple[str, str]] = []  #: every spelling, with what it does
        self.values: dict[str, str] = {}  #: option -> kind of its value
        self.positional = ""  #: kind of the words


def describe() -> "list[Described]":
    """Return what every command takes, read from its parser."""
    found = []
    for _, entries in commands.GROUPS:
        for name, _, says in entries:
            try:
                parser = commands.parser_for(name)
            except ImportError:
                continue  # a command whose part of Holdfast is not installed
            found.append(_describe(name, says, parser))
            for verb, says_verb, of_verb in commands.verbs(parser):
                found.append(_describe(f"{name} {verb}", says_verb, of_verb, name))
    return found


def _describe(name: str, says: str, parser: argparse.ArgumentParser, parent: str = "") -> Described:
    described = Described(name, says, parent)
    for action in parser._actions:  # noqa: SLF001 -- argparse has no public way to list them
        kind = _kind(action)
        for spelling in action.option_strings:
            described.options.append((spelling, (action.help or "").split("\n")[0]))
            if action.nargs != 0:
                described.values[spelling] = kind
        if not action.option_strings:
            described.positional = kind
    return described


def _kind(action: argparse.Action) -> str:
    """Return what may stand there: ``=a b c`` fixed words, a name for ``__complete``, ``file``, ``dir`` or nothing."""
    if action.choices:
        return "=" + " ".join(str(choice) for choice in action.choices)
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if metavar in DYNAMIC:
        return DYNAMIC[metavar]
    if metavar in ("CONFIG", "PATH", "FILE", "OUT"):
        return "file"
    return "dir" if metavar == "DIR" else ""


# -- bash ------------------------------------------------------------------------------------------

_BASH = """\
# bash completion for holdfast; made by `holdfast completion bash`
_holdfast() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= node=() i kind=
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -c|--config|--state) node+=("${COMP_WORDS[i]}" "${COMP_WORDS[i+1]}"); ((i++)) ;;
            --store|--prefix) ((i++)) ;;
            -*) ;;
            *)
                if [[ -z $command ]]; then command=${COMP_WORDS[i]}
                elif [[ " @PARENTS@ " == *" $command "* ]]; then command="$command ${COMP_WORDS[i]}"; fi ;;
        esac
    done
    case $command:$prev in
        *:-c|*:--config) kind=file ;;
        *:--state) kind=dir ;;
@VALUES@
    esac
    if [[ -z $kind ]]; then
        if [[ -z $command ]]; then
            kind="=@COMMANDS@"
            [[ $cur == -* ]] && kind="=-c --config --state --json --no-color --help --version"
        elif [[ $cur == -* ]]; then
            case $command in
@OPTIONS@
            esac
        else
            case $command in
@WORDS@
            esac
        fi
    fi
    case $kind in
        =*) COMPREPLY=($(compgen -W "${kind#=}" -- "$cur")) ;;
        file) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
        dir) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$cur")) ;;
        ?*) COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" "${node[@]}" __complete "$kind" 2>/dev/null)" -- "$cur")) ;;
    esac
}
complete -F _holdfast holdfast
"""


def bash(described: "list[Described]") -> str:
    """Return the script for bash."""
    values, options, words = [], [], []
    for command in described:
        for option, kind in command.values.items():
            if option not in ("-c", "--config", "--state"):
                values.append(f'        "{command.name}":{option}) kind="{kind or "none"}" ;;')
        spelled = " ".join(option for option, _ in command.options)
        options.append(f'                "{command.name}") kind="={spelled}" ;;')
        if command.positional:
            words.append(f'                "{command.name}") kind="{command.positional}" ;;')
    # "none" is a value that nobody can complete; bash must not offer a command's words in its place.
    values.append("")
    return (
        _BASH.replace("@VALUES@", "\n".join(values).rstrip())
        .replace("@COMMANDS@", " ".join(one.name for one in described if not one.parent))
        .replace(
            "@PARENTS@", " ".join(dict.fromkeys(one.parent for one in described if one.parent))
        )
        .replace("@OPTIONS@", "\n".join(options))
        .replace("@WORDS@", "\n".join(words))
        .replace("        ?*) COMPREPLY", "        none) ;;\n        ?*) COMPREPLY")
    )


# -- zsh -------------------------------------------------------------------------------------------

_ZSH = """\
#compdef holdfast
# zsh completion for holdfast; made by `holdfast completion zsh`
_holdfast_words() {
    local -a found
    found=(${(f)"$(holdfast ${(kv)opt_args[(I)-c|--config|--state]} __complete $1 2>/dev/null)"})
    compadd -a found
}
_holdfast() {
    local curcontext=$curcontext state line
    typeset -A opt_args
    local -a commands
    commands=(
@COMMANDS@
    )
    _arguments -C \\
        '(-c --config)'{-c,--config}'[configuration file]:file:_files' \\
        '--state[state directory]:directory:_directories' \\
        '--json[print JSON]' '--no-color[no colour]' '(- *)--help[help]' \\
        '1: :->command' '*:: :->rest'
    case $state in
        command) _describe command commands ;;
        rest)
            local typed=$words[1]
            if [[ " @PARENTS@ " == *" $typed "* ]] && (( CURRENT > 2 )); then
                typed="$typed $words[2]"; shift words; (( CURRENT-- ))
            fi
            case $typed in
@CASES@
            esac ;;
    esac
}
if [ "$funcstack[1]" = "_holdfast" ]; then _holdfast "$@"; else compdef _holdfast holdfast; fi
"""


def zsh(described: "list[Described]") -> str:
    """Return the script for zsh."""
    listed = [
        f"        '{command.name}:{_zsh_text(command.says)}'"
        for command in described
        if not command.parent
    ]
    cases = []
    for command in _verbs_first(described):
        specs = []
        for option, says in command.options:
            value = (
                f":value:{_zsh_action(command.values[option])}" if option in command.values else ""
            )
            specs.append(f"'{option}[{_zsh_text(says)}]{value}'")
        if command.positional:
            specs.append(f"'*:word:{_zsh_action(command.positional)}'")
        joined = " \\\n                    ".join(specs)
        # A command with verbs comes after them: what was typed so far is looked at whole.
        pattern = f'"{command.name}"' if command.parent else f'{command.name}|"{command.name} "*'
        cases.append(f"                {pattern}) _arguments \\\n                    {joined} ;;")
    parents = dict.fromkeys(command.parent for command in described if command.parent)
    return (
        _ZSH.replace("@COMMANDS@", "\n".join(listed))
        .replace("@PARENTS@", " ".join(parents))
        .replace("@CASES@", "\n".join(cases))
    )


def _verbs_first(described: "list[Described]") -> "list[Described]":
    return sorted(described, key=lambda command: not command.parent)


def _zsh_action(kind: str) -> str:
    if kind.startswith("="):
        return f"({kind[1:]})"
    if kind in ("file", "dir"):
        return {"file": "_files", "dir": "_directories"}[kind]
    return f"{{_holdfast_words {kind}}}" if kind else " "


def _zsh_text(text: str) -> str:
    for old, new in (("'", ""), ("[", "("), ("]", ")"), (":", "\\:")):
        text = text.replace(old, new)
    return text


# -- fish ------------------------------------------------------------------------------------------


def fish(described: "list[Described]") -> str:
    """Return the script for fish."""
    lines = [
        "# fish completion for holdfast; made by `holdfast completion fish`",
        "function __holdfast_words",
        "    holdfast __complete $argv[1] 2>/dev/null",
        "end",
        "complete -c holdfast -f",
        "complete -c holdfast -s c -l config -r -F -d 'configuration file'",
        "complete -c holdfast -l state -r -a '(__fish_complete_directories)' -d 'state directory'",
        "complete -c holdfast -l json -d 'print JSON'",
        "complete -c holdfast -l no-color -d 'no colour'",
    ]
    everywhere = {"-c", "--config", "--state", "--json", "--no-color"}
    for command in described:
        says = command.says.replace("'", "")
        if command.parent:
            verb = command.name.removeprefix(command.parent).strip()
            when = f"-n '__fish_seen_subcommand_from {command.parent}; and __fish_seen_subcommand_from {verb}'"
            lines.append(f"# {command.name}")
        else:
            when = f"-n '__fish_seen_subcommand_from {command.name}'"
            lines.append(
                f"complete -c holdfast -n __fish_use_subcommand -a {command.name} -d '{says}'"
            )
        for option, text in command.options:
            if option in everywhere:
                continue
            spelled = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            value = (
                f" -x -a '{_fish_action(command.values[option])}'"
                if option in command.values
                else ""
            )
            about = text.replace("'", "")
            lines.append(f"complete -c holdfast {when} {spelled}{value} -d '{about}'")
        if command.positional in ("file", "dir"):
            lines.append(f"complete -c holdfast {when} -F")
        elif command.positional:
            lines.append(f"complete -c holdfast {when} -a '{_fish_action(command.positional)}'")
    return "\n".join(lines) + "\n"


def _fish_action(kind: str) -> str:
    if kind.startswith("="):
        return kind[1:]
    if kind == "dir":
        return "(__fish_complete_directories)"
    if kind == "file":
        return "(__fish_complete_path)"
    return f"(__holdfast_words {kind})" if kind else ""

"""Refuses a mistyped option before the bootstrap touches the host. Standard library only, any Python >= 3.10.

Arguments: the `src` folder, the verb, then what the user typed. Exit code 0 when every option is known and
every choice is one of those offered (the command line checks the rest), else 2 with a message on standard error.
"""

from __future__ import annotations

import difflib
import sys


def main(src: str, verb: str, arguments: list[str]) -> int:
    if verb == "bundle":
        return 0  # it has options of its own
    sys.path.insert(0, src)
    from nqrust.installer.settings.options import OPTIONS, RUN_FLAGS

    choices: dict[str, tuple[str, ...]] = {"--help": (), "--version": (), "--detailed-exitcode": ()}
    takes_value = {"--script", "--save-fingerprint", "--before"}  # of uninstall and verify-clean
    choices.update(dict.fromkeys(takes_value, ()))
    for option in (*OPTIONS, *RUN_FLAGS):
        choices[option.flag] = option.choices
        if option.form.value != "boolean":
            takes_value.add(option.flag)
        if option.off:
            choices[option.off] = ()
    if "json" in arguments or "--output=json" in arguments:
        return 0  # the command line says it in JSON itself
    position = 0
    while position < len(arguments):
        name, given, value = arguments[position].partition("=")
        position += 1
        if name == "--":
            break
        if not name.startswith("--"):
            continue
        if name not in choices:
            near = difflib.get_close_matches(name, choices, 1)
            cure = f"Did you mean {near[0]}?" if near else "See docs/reference/settings.md for every option."
            return refuse("NQR-USE-002", f"There is no option {name}; nothing was changed.", cure)
        if name in takes_value and not given:
            if position == len(arguments):
                what = f"{name} needs a value; nothing was changed."
                return refuse("NQR-USE-002", what, "Give one after it.")
            value = arguments[position]
            position += 1
        if choices[name] and value not in choices[name]:
            offered = ", ".join(choices[name])
            what = f"{name} cannot be {value!r}; nothing was changed."
            return refuse("NQR-USE-003", what, f"It is one of: {offered}.")
    return 0


def refuse(code: str, what: str, cure: str) -> int:
    sys.stderr.write(f"{code}: {what}\n  {cure}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))

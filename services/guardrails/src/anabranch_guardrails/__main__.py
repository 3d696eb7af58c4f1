"""`python -m anabranch_guardrails`: the service; with `check` or `test`, a policy tried without it."""

import sys
from collections.abc import Mapping

from anabranch_guardrails.adapters import grounded, personal
from anabranch_guardrails.adapters.catalogue import catalogue
from anabranch_guardrails.application.ports import Check
from anabranch_guardrails.entrypoints import terminal


def personal_data() -> tuple[Check, Mapping[str, str]]:
    """The check for what has a form of its own, and what suites call its kinds."""
    names = {kind: kind for kind in personal.STRUCTURED}
    names |= {called: kind for kind, called in personal.TYPES.items() if kind in personal.STRUCTURED}
    return personal.configured({"kinds": list(personal.STRUCTURED)}), names


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in terminal.COMMANDS:
        sys.exit(
            terminal.run(
                sys.argv[1:],
                catalogue=catalogue,
                pii=personal_data,
                groundedness=lambda: grounded.configured({}),
            )
        )
    # A command in a terminal should not wait for what only the service needs.
    from anabranch_guardrails.bootstrap import build
    from anabranch_guardrails.settings import Settings
    from anabranch_runtime import serve

    serve(build, Settings)

"""`anabranch`: the command's root, and the one place where a fault becomes an exit code."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version

import click

from anabranch_cli.output import DONE, FAILED, NOT_RUNNING, USAGE, NotRunning, note
from anabranch_faults import Fault, Unreachable

# Command -> module. Modules are imported when their command is used: `status` should not wait for what `eval` needs.
COMMANDS = {
    "up": "lifecycle",
    "down": "lifecycle",
    "status": "lifecycle",
    "put": "documents",
    "delete": "documents",
    "ask": "questions",
    "search": "questions",
    "feedback": "feedback",
    "review": "reviews",
    "loop": "loop",
    "experiment": "experiments",
    "promote": "experiments",
    "rollback": "experiments",
    "approve": "experiments",
    "train": "training",
    "lineage": "lineage",
    "guard": "guarding",
    "policy": "governing",
    "cost": "spending",
    "quota": "spending",
    "price": "spending",
    "prompt": "prompting",
    "eval": "evaluation",
    "bench": "benchmark",
    "reindex": "index",
    "dlq": "dead_letters",
}
HELP = {
    "up": "Start Kafka, the index and the services.",
    "down": "Stop what `up` started.",
    "status": "Show what runs, and where to reach it.",
    "put": "Put documents in, through Kafka.",
    "delete": "Remove documents.",
    "ask": "Ask a corpus a question.",
    "search": "Find passages.",
    "feedback": "Say what an answer was worth.",
    "review": "Judge answers sampled for people; see how far judges agree.",
    "loop": "Show how feedback becomes change; declare how; simulate it.",
    "experiment": "Compare variants on live traffic.",
    "promote": "Give the traffic to a candidate or variant.",
    "rollback": "Go back to what served before.",
    "approve": "Let a candidate take the step it waits for.",
    "train": "Train a candidate from feedback, now.",
    "lineage": "Walk from an answer, model, data set or document through the whole chain.",
    "guard": "Try guardrails on texts and suites.",
    "policy": "Keep guardrail policies, and say where they hold.",
    "cost": "Add up what models cost.",
    "quota": "Say what tenants, keys, sessions and users may spend and ask.",
    "price": "Say what models cost.",
    "prompt": "Keep prompts, move their labels, replay and improve them.",
    "eval": "Measure retrieval or answers on a dataset; run and gate variants.",
    "bench": "Measure speed under load.",
    "reindex": "Rebuild a corpus under another embedding version, or roll back.",
    "dlq": "List, show and replay dead letters.",
}


class Commands(click.Group):
    """Subcommands by name, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Every command, in the order people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        """The command, or None."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(
            import_module(f"anabranch_cli.{COMMANDS[cmd_name]}"), "eval_" if cmd_name == "eval" else cmd_name
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's signature
        """Help without importing every module."""
        with formatter.section("Commands"):
            formatter.write_dl(list(HELP.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("anabranch-cli"), prog_name="anabranch")
def anabranch() -> None:
    """Run Anabranch and talk to it. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not running."""


def main() -> None:
    """Runs the command; a foreseen fault becomes a sentence on stderr and an exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """As `main`, returning the exit code."""
    try:
        result = anabranch.main(args=arguments, prog_name="anabranch", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return USAGE
    except click.Abort:
        note("stopped")
        return FAILED
    except (NotRunning, Unreachable) as fault:
        note(f"anabranch: {fault}")
        return NOT_RUNNING
    except Fault as fault:
        note(f"anabranch: {fault}")
        return FAILED
    return result if isinstance(result, int) else DONE


if __name__ == "__main__":
    main()

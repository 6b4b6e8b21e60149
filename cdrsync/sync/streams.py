"""What an account's checkpoints are kept of: the name of each stream."""

from __future__ import annotations


class Stream:
    """Positions, and marks of what is wanted."""

    TAIL = "tail"  # its row holds the high-water mark
    BOOTSTRAP = "bootstrap"  # when, and on which day, the account was polled for the first time
    LOOKBACK = "lookback"
    SWEEP = "sweep"
    DEEP_SWEEP = "deep-sweep"
    BACKFILL = "backfill"  # a range of days that a person asked for
    HISTORY = "history"  # the way back to the first call, where everything is wanted
    START = "start"  # since when calls are wanted, as settings have ever said: only a person narrows it
    WANTED = "wanted"  # since when a number is wanted, or all are: days that were read before lack its calls
    POLLED = "polled"  # when the operator was asked last and had nothing new, once a minute, for who looks on

    @staticmethod
    def of(name: str, number: str | None) -> str:
        """The stream of a number; of the whole account where it is limited to none."""
        return name if number is None else f"{name}:{number}"

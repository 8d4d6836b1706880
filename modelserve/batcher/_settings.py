"""What a batcher was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from modelserve.batcher._form import Form
from modelserve.batcher._layout import Stack
from modelserve.batcher._options import check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelserve.events import Hook
    from modelserve.typing import Clock


class Settings(NamedTuple):
    """What a batcher was told."""

    name: str
    form: Form
    max_wait: float
    max_queue_size: int
    max_queue_bytes: float
    waits: bool
    workers: int
    slo: float | None
    max_run: float | None
    isolate: bool
    clock: Clock
    on_event: Hook | None

    @classmethod
    def of(cls, options: Mapping[str, Any], name: str) -> Settings:
        """Take options that were all given; ``name`` is for a batcher that was given none.

        Raises ValueError for what cannot be meant.
        """
        check(options)
        layout = options["layout"] or Stack()
        return cls(
            name=options["name"] or name,
            form=Form(layout, options["size"], options["max_batch_size"]),
            max_wait=options["max_wait"],
            max_queue_size=options["max_queue_size"],
            max_queue_bytes=options["max_queue_bytes"],
            waits=options["overflow"] == "wait",
            workers=options["workers"],
            slo=options["slo"],
            max_run=options["max_run"],
            isolate=options["on_error"] == "isolate",
            clock=options["clock"],
            on_event=options["on_event"],
        )

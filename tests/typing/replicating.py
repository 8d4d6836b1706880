"""What replicas infer: what all of them take and give."""

from __future__ import annotations

from typing import assert_type

import modelserve as ms


def length(text: str) -> int:
    return len(text)


async def alength(text: str) -> int:
    return len(text)


assert_type(ms.Replicas(length, length), ms.Replicas[str, int])
assert_type(ms.Replicas(alength, alength), ms.Replicas[str, int])
assert_type(ms.Replicas(length)("a"), int)

"""DevicePlacer: a policy, and the devices that it is applied to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import cast, final

from modelserve._policy.placing import Ask, Plan, Policy, Space, order, place
from modelserve.placement._devices import Device, devices


@final
class DevicePlacer:
    """Decide which model goes to which device.

    Models are given by name with their bytes, or as ``Ask(name, nbytes, replicas=1, pin=None)``.
    Each goes to the GPU where it leaves least free, the largest first; replicas of one model to
    different GPUs where there is room; a pinned one to its device or nowhere; with ``spill``, what
    fits on no GPU to the CPU. ``headroom`` is the share of every device that stays free for what
    calls allocate. ``inventory`` gives the devices, by default :func:`modelserve.devices`; it is
    asked anew for each plan. What fits nowhere is in ``plan.refused``, with the numbers.

    Raises ValueError for a headroom outside of [0, 1) and for equal names.

    >>> import modelserve as ms
    >>> def two_gpus():
    ...     return ms.Device("cuda:0", 100, 100), ms.Device("cuda:1", 100, 60)
    >>> plan = ms.DevicePlacer(headroom=0.1, inventory=two_gpus).plan({"a": 50, "b": 90, "c": 70})
    >>> plan.places, plan.refused
    ({'a': ('cuda:1',), 'b': ('cuda:0',)}, {'c': 'needs 70 bytes; cuda:0 has 0, cuda:1 has 50'})
    """

    def __init__(
        self,
        *,
        headroom: float = 0.1,
        spill: bool = True,
        inventory: Callable[[], Iterable[Device]] = devices,
    ) -> None:
        if not 0 <= headroom < 1:
            raise ValueError(f"headroom={headroom!r}: pass a share in [0, 1)")
        self._policy = Policy(headroom, spill)
        self._inventory = inventory

    def plan(self, models: Mapping[str, int] | Iterable[Ask]) -> Plan:
        """Decide for all models at once; nothing is loaded or moved.

        >>> import modelserve as ms
        >>> gpu = ms.Device("cuda:0", 100, 100)
        >>> ms.DevicePlacer(headroom=0.0, inventory=lambda: [gpu]).plan({"a": 30}).left
        {'cuda:0': 70}
        """
        if isinstance(models, Mapping):
            sizes = cast("Mapping[str, int]", models)
            asks = [Ask(name, nbytes) for name, nbytes in sizes.items()]
        else:
            asks = list(models)
        names = [ask.name for ask in asks]
        if len(set(names)) < len(names):
            raise ValueError(f"two of the models {names} have one name: a plan is by name")
        return place(asks, self._spaces(), self._policy)

    def order(self, nbytes: int | None) -> tuple[str, ...]:
        """Return the devices on which one model of so many bytes has room, the best first.

        That is where it leaves least free, or most where its bytes are not known; the CPU is last.

        >>> import modelserve as ms
        >>> devices = ms.Device("cuda:0", 100, 90), ms.Device("cuda:1", 100, 60)
        >>> placer = ms.DevicePlacer(inventory=lambda: devices)
        >>> placer.order(50), placer.order(70), placer.order(None)
        (('cuda:1', 'cuda:0'), ('cuda:0',), ('cuda:0', 'cuda:1'))
        """
        return order(nbytes, self._spaces(), self._policy)

    def _spaces(self) -> list[Space]:
        return [Space(device.name, device.total, device.free) for device in self._inventory()]

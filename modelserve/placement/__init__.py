"""Devices: what there is, which model goes where, and what to do when one is full."""

from __future__ import annotations

from modelserve._policy.placing import Ask, Plan, Policy
from modelserve.placement._devices import Device, devices
from modelserve.placement._ladder import climb
from modelserve.placement._placer import DevicePlacer

__all__ = ["Ask", "Device", "DevicePlacer", "Plan", "Policy", "climb", "devices"]

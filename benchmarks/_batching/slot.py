"""The simulated device itself, a process of its own: it is busy for as long as it is asked to be.

Seconds come as 8 bytes, and when it started and ended goes back as 16. It keeps its own time, so
that who asks cannot make it late by keeping the interpreter busy.
"""

import struct
import sys
import time

ask, answer = struct.Struct("d"), struct.Struct("dd")

if __name__ == "__main__":
    while seconds := sys.stdin.buffer.read(ask.size):
        start = time.perf_counter()
        time.sleep(*ask.unpack(seconds))
        sys.stdout.buffer.write(answer.pack(start, time.perf_counter()))
        sys.stdout.buffer.flush()

"""The one thread that closes models: there when it is needed, and gone with the last of them."""

import os
import threading

import pytest

from modelserve.loader._reaper import Reaper
from tests.loader.crowds import LIMIT, start, until
from tests.support.processes import fresh, in_child


def test_what_is_due_is_done_in_order_on_one_thread():
    reaper, done = Reaper(), []
    for i in range(3):
        reaper.expect()
        reaper.put(lambda i=i: done.append((i, threading.current_thread().name)))
    reaper.finish()

    assert done == [(i, "modelserve-close") for i in range(3)]


def test_its_thread_is_there_while_something_is_expected():
    reaper = Reaper()
    reaper.finish()
    assert reaper._thread is None
    reaper.expect()
    reaper.expect()
    thread = reaper._thread
    reaper.put(lambda: None)
    reaper.finish()
    assert thread.is_alive()
    reaper.put(None)
    thread.join(LIMIT)

    assert not thread.is_alive()
    assert reaper._thread is None
    reaper.expect()
    reaper.put(None)
    until(lambda: reaper._thread is None)


def test_what_is_done_is_not_held():
    import weakref

    class Model:
        pass

    reaper, model = Reaper(), Model()
    gone = weakref.ref(model)
    reaper.expect()
    reaper.expect()
    reaper.put(lambda model=model: None)
    del model
    reaper.finish()

    until(lambda: gone() is None)
    reaper.put(None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_does_what_becomes_due_there():
    reaper, done = Reaper(), []
    reaper.expect()

    def work():
        reaper.put(lambda: done.append("in the child"))
        start(reaper.finish).result(LIMIT)
        return done

    with reaper._lock:  # held by nobody in the child
        assert in_child(work) == repr(["in the child"])
    reaper.put(None)
    until(lambda: reaper._thread is None)
    assert in_child(lambda: reaper._thread) == "None"
    assert done == []


def test_a_process_ends_after_it_closed_what_it_let_go_and_waits_for_nothing_else():
    code = """
import sys
import modelserve as ms

def close(model):
    sys.stdout.write(f"closed {model}\\n")

first = ms.ModelLoader(lambda: "one", predict=len, close=close)
first.get()
other = ms.ModelLoader(lambda: "other", predict=len, close=close)
other.get()
first.close()
sys.stdout.write("end\\n")
"""
    assert sorted(fresh(code).splitlines()) == ["closed one", "end"]


def test_a_process_ends_though_a_close_does_not():
    code = """
import logging, sys, threading
import modelserve as ms
from modelserve.loader import _reaper

logging.basicConfig(stream=sys.stdout)

_reaper.AT_EXIT = 0.01
loader = ms.ModelLoader(lambda: "one", predict=len, close=lambda model: threading.Event().wait(20))
loader.get()
loader.close()
"""
    assert "a close= took more than 0.01 s: not all models were closed" in fresh(code)


def test_the_end_of_a_process_waits_for_what_is_due_and_not_for_long(monkeypatch, caplog):
    monkeypatch.setattr("modelserve.loader._reaper.AT_EXIT", 0.01)
    reaper, gate, done = Reaper(), threading.Event(), threading.Event()
    for job in (lambda: gate.wait(LIMIT), done.set):
        reaper.expect()
        reaper.put(job)
    reaper._at_exit()
    assert "a close= took more than 0.01 s: not all models were closed" in caplog.text
    gate.set()
    assert done.wait(LIMIT)
    caplog.clear()
    monkeypatch.setattr("modelserve.loader._reaper.AT_EXIT", LIMIT)
    reaper._at_exit()

    assert not caplog.text

"""Which models stay in memory, and what unloading them means for those who work with one."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from fairloop.errors import InvalidInput
from fairloop.serving.loaded import Loaded


class Model:
    """Something large."""


def never() -> Model:
    raise AssertionError("it is loaded a second time")


def test_a_model_is_loaded_once_and_the_one_that_was_asked_for_longest_ago_goes_first() -> None:
    loaded: Loaded[str, Model] = Loaded(2)
    first = weakref.ref(loaded.get("first", Model))
    second = weakref.ref(loaded.get("second", Model))
    assert loaded.get("first", never) is first()
    loaded.get("third", Model)
    gc.collect()
    assert second() is None
    assert loaded.get("first", never) is first()


def test_unloading_lets_go_of_what_is_idle_and_what_is_in_use_is_found_again() -> None:
    loaded: Loaded[str, Model] = Loaded(3)
    used = loaded.get("used", Model)
    idle = weakref.ref(loaded.get("idle", Model))
    assert loaded.unload() == 2
    gc.collect()
    assert idle() is None
    assert loaded.get("used", never) is used
    assert loaded.unload() == 1
    assert loaded.unload() == 0
    gone = weakref.ref(used)
    del used
    assert gone() is None


def test_while_one_loads_others_get_what_is_there_and_nobody_loads_it_twice() -> None:
    loaded: Loaded[str, Model] = Loaded(2)
    there = loaded.get("there", Model)
    began, go_on = threading.Event(), threading.Event()

    def slow() -> Model:
        began.set()
        assert go_on.wait(30)
        return Model()

    found: list[Model] = []
    threads = [threading.Thread(target=lambda: found.append(loaded.get("slow", slow))) for _ in range(2)]
    threads[0].start()
    assert began.wait(30)
    threads[1].start()
    assert loaded.get("there", never) is there
    began.clear()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert found[0] is found[1]
    assert not began.is_set()


def test_a_model_may_be_made_of_another_and_a_failed_loading_is_forgotten() -> None:
    loaded: Loaded[str, Model] = Loaded(2)
    built = loaded.get("sampler", lambda: loaded.get("network", Model))
    assert loaded.get("network", never) is built

    def fails() -> Model:
        raise InvalidInput("model", "is no model")

    with pytest.raises(InvalidInput, match="is no model"):
        loaded.get("broken", fails)
    assert isinstance(loaded.get("broken", Model), Model)

"""Out of memory, a rung after the other, on devices that fail as real ones do."""

import pytest

import modelserve as ms
from modelserve.placement import climb
from tests.support.allocator import FakeDevice


class Machine:
    """Devices, the models on them, and what was tried in which order."""

    def __init__(self, *devices):
        self.devices = {device.name: device for device in devices}
        self.idle = []
        self.tried = []

    def put(self, place, nbytes):
        """Put an idle model on a device."""
        self.idle.append((place, self.devices[place].allocate(nbytes)))

    def load(self, nbytes):
        def load(place):
            self.tried.append(place)
            return self.devices[place].allocate(nbytes)

        return load

    def evict(self, place):
        """Let the idle models of a device go, and wait until their memory is back."""
        gone = [pair for pair in self.idle if pair[0] == place]
        for pair in gone:
            self.idle.remove(pair)
            self.devices[place].release(pair[1])
        self.devices[place].empty_cache()
        return bool(gone)

    def climb(self, nbytes):
        return climb(self.load(nbytes), self.devices, evict=self.evict, name="'ranker'")[0]


def test_a_model_that_fits_stays_on_the_first_device():
    machine = Machine(FakeDevice("cuda:0", 100), FakeDevice("cpu", 1000))

    assert machine.climb(80) == "cuda:0"
    assert machine.tried == ["cuda:0"]


def test_others_are_evicted_and_the_load_tried_once_more():
    machine = Machine(FakeDevice("cuda:0", 100, delay=5), FakeDevice("cpu", 1000))
    machine.put("cuda:0", 50)

    assert machine.climb(80) == "cuda:0"
    assert machine.tried == ["cuda:0", "cuda:0"]
    assert machine.idle == []


def test_without_anybody_to_evict_the_next_device_is_tried():
    machine = Machine(FakeDevice("cuda:0", 50), FakeDevice("cuda:1", 100), FakeDevice("cpu", 1000))

    assert machine.climb(80) == "cuda:1"
    assert machine.tried == ["cuda:0", "cuda:1"]


def test_what_is_free_in_pieces_does_not_do():
    gpu = FakeDevice("cuda:0", 100)
    machine = Machine(gpu, FakeDevice("cpu", 1000))
    blocks = [gpu.allocate(25) for _ in range(4)]
    gpu.release(blocks[0])
    gpu.release(blocks[2])

    assert (gpu.free, gpu.largest) == (50, 25)
    assert machine.climb(50) == "cpu"


def test_an_allocation_that_fails_for_no_reason_is_tried_again_only_after_an_eviction():
    machine = Machine(FakeDevice("cuda:0", 100, fail_at={2, 3}), FakeDevice("cpu", 1000))
    machine.put("cuda:0", 10)

    assert machine.climb(10) == "cpu"
    assert machine.tried == ["cuda:0", "cuda:0", "cpu"]


def test_slices_do_not_lend_to_one_another():
    slices = FakeDevice("cuda:0", 80).sliced(20, 20, 40)
    machine = Machine(*slices)

    assert machine.climb(30) == "cuda:0:2"
    with pytest.raises(ms.ModelLoadError):
        machine.climb(30)


def test_where_no_device_has_enough_each_says_why():
    machine = Machine(FakeDevice("cuda:0", 50), FakeDevice("cpu", 60))
    with pytest.raises(ms.ModelLoadError) as caught:
        machine.climb(80)

    assert str(caught.value) == (
        "'ranker' found no device with enough memory ("
        "cuda:0: cuda:0 out of memory: tried to allocate 80 bytes, 50 are free, 50 in one piece; "
        "cpu: cpu out of memory: tried to allocate 80 bytes, 60 are free, 60 in one piece"
        "): evict or shrink others, or compress it"
    )
    assert type(caught.value.__cause__).__name__ == "OutOfMemoryError"


def test_without_a_device_it_says_so():
    with pytest.raises(ms.ModelLoadError, match="none was given"):
        Machine().climb(1)


def test_any_other_error_is_raised_at_once():
    tried = []

    def load(place):
        tried.append(place)
        raise ValueError("no model at all")

    with pytest.raises(ValueError, match="no model at all"):
        climb(load, ["cuda:0", "cpu"])
    assert tried == ["cuda:0"]


def test_by_default_nobody_is_evicted():
    gpu = FakeDevice("cuda:0", 10)
    with pytest.raises(ms.ModelLoadError, match=r"^the model found no device"):
        climb(lambda place: gpu.allocate(20), ["cuda:0"])
    assert gpu.allocations == 1


def test_an_error_that_came_of_too_little_memory_is_one_and_holds_nothing():
    gpu = FakeDevice("cuda:0", 100)

    def load(place):
        block = Held(gpu, gpu.allocate(60))
        try:
            gpu.allocate(60)
        except RuntimeError as error:
            raise ms.ModelLoadError("the file could not be loaded") from error
        return block

    with pytest.raises(ms.ModelLoadError, match="the file could not be loaded"):
        climb(load, ["cuda:0"])
    assert gpu.free == 100


class Held:
    def __init__(self, device, block):
        self._device, self._block = device, block

    def __del__(self):
        self._device.release(self._block)

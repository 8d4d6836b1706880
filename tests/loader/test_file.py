"""What a loader tells of its file before it reads it."""

import pytest

import modelserve as ms


def test_a_function_has_no_file():
    assert ms.ModelLoader(lambda: str.upper).file() is None
    assert ms.predictor(str.upper).file() is None


def test_a_file_has_a_suffix_and_bytes_if_it_is_there(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"12345")

    assert ms.ModelLoader(tmp_path / "a.npz").file() == (".npz", 5)
    assert ms.ModelLoader(tmp_path / "b.npz").file() == (".npz", None)


@pytest.mark.parametrize(("pinned", "nbytes"), [(None, 3), ("1", 5)])
def test_a_folder_of_versions_tells_of_the_one_to_serve(tmp_path, pinned, nbytes):
    for version, data in (("1", b"12345"), ("2", b"123")):
        (tmp_path / "m" / version).mkdir(parents=True)
        (tmp_path / "m" / version / "a.npz").write_bytes(data)

    assert ms.ModelLoader(tmp_path / "m", version=pinned).file() == (".npz", nbytes)


def test_a_folder_without_versions_tells_nothing(tmp_path):
    assert ms.ModelLoader(tmp_path / "m").file() == ("", None)


def test_a_loader_knows_the_thread_that_loads_it():
    seen = []
    loader = ms.ModelLoader(lambda: seen.append(loader.loads_here()) or str.upper)
    loader.get()

    assert (seen, loader.loads_here()) == ([True], False)

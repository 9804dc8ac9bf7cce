"""CUDA_VISIBLE_DEVICES, as CUDA reads it."""

from __future__ import annotations

import pytest

from energyprof.collectors.visible import visible_gpus

UUIDS = [
    "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "GPU-8932aaaa-0000-4106-c12f-20bd9faed9f6",
    "GPU-77777777-0000-4106-c12f-20bd9faed9f6",
]
MIG = {"MIG-aaaa": 1, "MIG-bbbb": 1}


def see(wish: str | None, count: int = 3) -> tuple[dict[int, bool], str]:
    return visible_gpus(wish, count, lambda i: UUIDS[i], MIG.get)


@pytest.mark.parametrize(
    ("wish", "indices"),
    [
        (None, [0, 1, 2]),
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("1gpu2", [1]),  # as C's strtoul reads it
        ("+1", [1]),
        ("0,7,1", [0]),  # CUDA stops at the first that is not there
        ("0,-1,1", [0]),
        ("0,,1", [0]),
        ("0,x", [0]),
        ("GPU-7777", [2]),
        ("gpu-7777", []),
        ("GPU-8932F937", [0]),
        (UUIDS[1], [1]),
        ("GPU-8932", []),  # two boards begin so
        ("GPU-7,GPU-0", [2]),
        ("0,GPU-7777", [0, 2]),
        ("0,0", []),  # CUDA sees none where an entry is repeated
        ("0,GPU-8932f937", []),
        ("", []),
        ("  ", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("³", []),  # a digit to Python, not to C
    ],
)
def test_the_list_gives_the_gpus_that_cuda_would_give(wish: str | None, indices: list[int]) -> None:
    found, _ = see(wish)
    assert list(found) == indices
    assert not any(found.values())


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ("MIG-aaaa", {1: True}),
        ("MIG-aaaa,MIG-bbbb", {1: True}),
        ("MIG-aaaa,MIG-aaaa", {}),
        ("MIG-cccc", {}),
        ("MIG-GPU-77777777-0000-4106-c12f-20bd9faed9f6/1/0", {2: True}),
        (
            "MIG-GPU-77777777-0000-4106-c12f-20bd9faed9f6/1/0,MIG-GPU-77777777-0000-4106-c12f-20bd9faed9f6/2/0",
            {2: True},
        ),
    ],
)
def test_a_mig_slice_stands_for_the_gpu_that_holds_it(wish: str, expected: dict[int, bool]) -> None:
    assert see(wish)[0] == expected


@pytest.mark.parametrize("wish", ["", "-1", "NoDevFiles", "9", "0,0", "GPU-none"])
def test_a_program_that_sees_no_gpu_is_told_why(wish: str) -> None:
    found, why = see(wish)
    assert not found
    assert why.startswith("CUDA_VISIBLE_DEVICES")


def test_the_boards_are_not_asked_for_uuids_where_indices_do() -> None:
    def uuid_of(index: int) -> str:
        raise AssertionError("asked for a UUID")

    assert visible_gpus("0,1", 2, uuid_of, MIG.get)[0] == {0: False, 1: False}

"""Which of a node's GPUs a program may use: `CUDA_VISIBLE_DEVICES` as CUDA reads it.

Rules: the CUDA C++ Programming Guide, "CUDA Environment Variables", and, for what it leaves open (signs,
digits followed by letters, repeated entries), what PyTorch checked against the driver
(`torch.cuda._parse_visible_devices`). Standard library alone, and little of it: the user's own process
reads this.
"""

from __future__ import annotations

from collections.abc import Callable

_VARIABLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus(
    wish: str | None,
    count: int,
    uuid_of: Callable[[int], str],
    mig_parent: Callable[[str], int | None] = lambda uuid: None,
    variable: str = _VARIABLE,
) -> tuple[dict[int, bool], str]:
    """The NVML indices of the GPUs that the program sees, in its order.

    Parameters
    ----------
    wish
        The value of ``CUDA_VISIBLE_DEVICES``; None where it is not set (all GPUs).
    count
        How many GPUs NVML sees.
    uuid_of
        The UUID (``GPU-…``) of a GPU by NVML index; asked for only where the list has UUIDs.
    mig_parent
        The NVML index of the GPU that holds a MIG device (``MIG-<uuid>``), or None.
    variable
        Another variable's name: ROCm's are read by the same rules.

    Returns
    -------
    tuple
        Index -> True where the program was given a MIG slice of that GPU; and, where the list ends early or
        is empty, why, in words.
    """
    if wish is None:
        return dict.fromkeys(range(count), False), ""
    if not wish.strip() or wish.strip() == "NoDevFiles":
        return {}, f"{variable} is {wish.strip() or 'empty'}: the program sees no GPU"
    found: dict[int, bool] = {}
    seen: set[str] = set()
    for entry in (part.strip() for part in wish.split(",")):
        index, is_mig = _resolve(entry, count, uuid_of, mig_parent)
        if index is None:  # CUDA takes the entries before the first invalid one
            return found, f"{variable}={wish} ends at '{entry}', which is no GPU here"
        key = entry if is_mig else str(index)
        if key in seen:  # CUDA then sees none at all
            return {}, f"{variable}={wish} names '{entry}' twice: the program sees no GPU"
        seen.add(key)
        found[index] = found.get(index, False) or is_mig
    return found, ""


def _resolve(
    entry: str, count: int, uuid_of: Callable[[int], str], mig_parent: Callable[[str], int | None]
) -> tuple[int | None, bool]:
    if entry.startswith("MIG-GPU-"):  # the form before driver 470: MIG-GPU-<uuid>/<instance>/<instance>
        return _by_uuid(entry[len("MIG-") :].partition("/")[0], count, uuid_of), True
    if entry.startswith("MIG-"):
        return mig_parent(entry), True
    if entry.startswith("GPU-"):
        return _by_uuid(entry, count, uuid_of), False
    index = _leading_number(entry)
    return (index if index is not None and index < count else None), False


def _by_uuid(prefix: str, count: int, uuid_of: Callable[[int], str]) -> int | None:
    """A UUID may be cut short as long as it is unique."""
    matches = [i for i in range(count) if uuid_of(i).lower().startswith(prefix.lower())]
    return matches[0] if len(matches) == 1 else None


def _leading_number(entry: str) -> int | None:
    """What C's strtoul makes of an entry, as CUDA does: ``1gpu`` is 1; None for none or a negative one."""
    digits = entry[1:] if entry[:1] == "+" else entry
    end = 0
    while end < len(digits) and "0" <= digits[end] <= "9":
        end += 1
    return int(digits[:end]) if end else None

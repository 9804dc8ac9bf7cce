"""FLOPs of an einsum: its pairwise contractions, in the order in which torch does them.

Labels that stand in one operand alone are summed before; a pair that shares a label to be summed is a batched
matrix product of 2 x all its labels' sizes; a pair that shares none is an elementwise product and counts
nothing, as everywhere here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def _labels(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], set[str]]:
    """The labels of each operand and of the result; those of an ellipsis are numbered from the right."""
    left, arrow, right = equation.replace(" ", "").partition("->")

    def split(term: str, rank: int) -> list[str]:
        before, dots, after = term.partition("...")
        hidden = rank - len(before) - len(after) if dots else 0
        return [*before, *(f".{index}" for index in range(hidden, 0, -1)), *after]

    operands = [split(term, rank) for term, rank in zip(left.split(","), ranks)]
    every = [label for operand in operands for label in operand]
    if arrow:
        kept = set(right.replace("...", ""))
        if "..." in right:
            kept |= {label for label in every if label.startswith(".")}
    else:  # what stands once is kept, as in Einstein's convention
        kept = {label for label in every if every.count(label) == 1 or label.startswith(".")}
    return operands, kept


def _pair(a: dict[str, int], b: dict[str, int], needed: set[str]) -> tuple[dict[str, int], int]:
    """The contraction of two operands: the sizes of its labels, and its FLOPs."""
    # A label that is not needed later is summed alone where the other operand does not carry it at full size.
    a = {label: size for label, size in a.items() if label in needed or min(size, b.get(label, 1)) > 1}
    b = {label: size for label, size in b.items() if label in needed or label in a}
    sizes = {label: max(a.get(label, 1), b.get(label, 1)) for label in {**a, **b}}
    summed = {label for label in sizes if label not in needed}
    flops = 2 * math.prod(sizes.values()) if summed else 0
    return {label: size for label, size in sizes.items() if label in needed}, flops


def einsum_flops(equation: str, shapes: Sequence[Sequence[int]], order: Sequence[int] = ()) -> int:
    """FLOPs of an einsum over operands of the given shapes.

    Parameters
    ----------
    order
        The pairs to contract, two positions each, as opt_einsum gives them to torch; from the left if empty.
        A contracted pair goes to the end of the operands.
    """
    labels, kept = _labels(equation, [len(shape) for shape in shapes])
    operands = [dict(zip(names, shape)) for names, shape in zip(labels, shapes)]
    pairs = list(zip(order[::2], order[1::2]))
    total = 0
    while len(operands) > 1:
        first, second = sorted(pairs.pop(0)) if pairs else (0, 1)
        b, a = operands.pop(second), operands.pop(first)
        needed = kept.union(*operands) if operands else kept
        result, flops = _pair(a, b, needed)
        total += flops
        operands.insert(len(operands) if order else 0, result)
    return total

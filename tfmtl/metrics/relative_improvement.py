"""RelaImpr, the improvement of an AUC over another one."""


def relative_improvement(value: float, base: float) -> float:
    """Share by which `value` is further from chance than `base` is.

    RelaImpr = (value - 0.5) / (base - 0.5) - 1, for metrics whose value at chance is 0.5.

    Args:
        value: AUC or GAUC of the model.
        base: AUC or GAUC of the model it is compared with, above 0.5.

    Returns:
        A fraction: 0.01 stands for 1 %.

    Raises:
        ValueError: If the base is no better than chance, where the ratio has no meaning.

    Example:
        >>> f"{relative_improvement(0.7428, 0.7383):.2%}"
        '1.89%'
    """
    if not base > 0.5:
        raise ValueError(
            f"expected a base above 0.5, the value at chance; received {base}: "
            "compare the values themselves instead"
        )
    return (value - 0.5) / (base - 0.5) - 1

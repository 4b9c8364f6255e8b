"""The check every knob goes through. Standard library only."""


def check(name: str, value: object, ok: bool, must: str) -> None:
    """Refuses a value out of range.

    Raises:
        ValueError: ``ok`` is false; says what ``name`` must be.
    """
    if not ok:
        raise ValueError(f"{name} must be {must}, got {value!r}")

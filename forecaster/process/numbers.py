"""Numbers as a person reads them: with a noun, short, or as a change."""

_UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, in the plural unless it is 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def short(value: float, *, digits: int = 3, gap: str = " ") -> str:
    """Write a number with this many digits and a letter for its unit, such as "73.1 B"."""
    unit, letter = _unit(value, digits)
    return f"{value / unit:,.{digits}g}{gap if letter else ''}{letter}"


def _unit(value: float, digits: int) -> tuple[float, str]:
    # 999,600 is 1 M with three digits, not 1000 k.
    least = 1 - 0.5 * 10.0**-digits
    return next((unit for unit in _UNITS if abs(value) >= unit[0] * least), (1.0, ""))


def short_range(low: float, high: float, *, digits: int = 3) -> str:
    """Write a range in the unit of its upper end, such as "58.2 to 91.8 B"."""
    unit, letter = _unit(high, digits)
    return f"{low / unit:,.{digits}g} to {high / unit:,.{digits}g}{' ' if letter else ''}{letter}"


def change(now: float | None, before: float | None) -> str:
    """Write the change of a number in percent, such as "-0.4 %"; empty if there is none to compare with."""
    if now is None or not before:
        return ""
    percent = round((now - before) / abs(before) * 100, 1) + 0.0  # which makes a zero of -0.0
    return f"{percent:+,.1f} %"

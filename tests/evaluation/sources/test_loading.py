"""Reading ahead."""

import pytest

from captum_clrp.evaluation.sources.loading import ahead


def test_reading_ahead_keeps_the_order_and_stays_within_bounds():
    begun = []

    def read(item):
        begun.append(item)
        return -item

    results = ahead(read, range(20), count=3)
    assert next(results) == 0
    assert max(begun) <= 4
    assert [0, *results] == [-i for i in range(20)]


def test_reading_ahead_hands_errors_on():
    def read(item):
        raise OSError(f"disk {item}")

    with pytest.raises(OSError, match="disk 0"):
        next(ahead(read, range(3)))

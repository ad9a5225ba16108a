"""Records survive what happens to processes and files."""

import math

import pytest

from captum_clrp.evaluation.results.records import Measured, Record, Recorder, merge, read_records


def record(index: int, value: float = 0.5) -> Record:
    values = {"lrp": {"hit": value, "curve": [0.1, value]}}
    return Record(f"image {index}", index, (Measured(3, "cat", values),), ("object cropped away",))


def test_a_record_comes_back_to_the_last_bit(tmp_path):
    value = 0.1 + 0.2
    with Recorder(tmp_path / "a.jsonl") as recorder:
        recorder.add(record(4, value))
    assert read_records(tmp_path) == [record(4, value)]


def test_nan_comes_back(tmp_path):
    with Recorder(tmp_path / "a.jsonl") as recorder:
        recorder.add(record(0, math.nan))
    assert "NaN" not in (tmp_path / "a.jsonl").read_text()
    (back,) = read_records(tmp_path)
    assert math.isnan(back.measured[0].values["lrp"]["hit"])
    assert math.isnan(back.measured[0].values["lrp"]["curve"][1])


def test_records_are_on_disk_at_once(tmp_path):
    with Recorder(tmp_path / "a.jsonl") as recorder:
        recorder.add(record(0))
        assert read_records(tmp_path) == [record(0)]


@pytest.mark.parametrize("cut", [1, 10, -1, -2])
def test_a_line_that_was_cut_off_does_not_count_and_harms_no_other(tmp_path, cut):
    path = tmp_path / "a.jsonl"
    path.write_text(record(0).line() + record(1).line()[:cut])
    expected = [record(0), record(1)] if cut == -1 else [record(0)]  # only the end of the line is missing
    assert read_records(tmp_path) == expected
    with Recorder(path) as recorder:
        recorder.add(record(2))
    assert read_records(tmp_path) == [*expected, record(2)]


def test_each_image_counts_once_in_the_order_of_the_source(tmp_path):
    for name, indices in (("process-1", (5, 1)), ("process-0", (1, 0))):
        with Recorder(tmp_path / f"{name}.jsonl") as recorder:
            for index in indices:
                recorder.add(record(index))
    assert [r.index for r in read_records(tmp_path)] == [0, 1, 5]
    assert merge([[record(1)], [record(1), record(0)]]) == [record(0), record(1)]


def test_a_folder_without_records_is_empty(tmp_path):
    assert read_records(tmp_path / "nothing") == []

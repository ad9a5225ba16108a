"""Records survive what happens to processes and files."""

import math

import pytest

from captum_clrp.evaluation.results.records import (
    Measured,
    Record,
    Recorder,
    merge,
    packed_values,
    read_records,
    read_values,
)


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


class Disk:
    """A file that takes some bytes at a time."""

    def __init__(self, most):
        self.most, self.writes = most, []

    def write(self, content):
        self.writes.append(bytes(content[: self.most]))
        return len(self.writes[-1])

    def close(self):
        pass


def test_a_line_is_written_in_one_piece_and_whole_where_a_disk_takes_parts(tmp_path):
    long = Record("image", 0, (Measured(3, "cat", {"lrp": {"curve": [0.1] * 20_000}}),))
    for most, count in ((1 << 20, 1), (30_000, 3)):
        with Recorder(tmp_path / "a.jsonl") as recorder:
            recorder._file.close()
            recorder._file = disk = Disk(most)
            recorder.add(long)
        assert len(disk.writes) == count
        assert b"".join(disk.writes).decode() == long.line()


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


def test_values_of_all_images_come_back_from_one_file_to_the_last_bit(tmp_path):
    path = tmp_path / "values.json.gz"
    path.write_bytes(packed_values({"seed": 3, "settings": {"share": math.nan}}, [record(0, 0.1 + 0.2), record(1)]))
    assert read_values(path) == ({"seed": 3, "settings": {"share": None}}, [record(0, 0.1 + 0.2), record(1)])


def test_the_same_values_are_the_same_bytes_at_any_time(monkeypatch):
    first = packed_values({"seed": 0}, [record(0), record(1)])
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert packed_values({"seed": 0}, [record(0), record(1)]) == first
    assert packed_values({"seed": 0}, [record(0), record(1, 0.6)]) != first

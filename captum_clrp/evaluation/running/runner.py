"""The loop: images in batches, shared by processes, measured once, recorded as they come, summarised at the end.

Which images form a batch, and what is random about an image, depends on the source and the seed alone: not on the
number of processes, nor on where an earlier run stopped. So the numbers are the same.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.metrics import Bench, Measured, PerImageMetric
from captum_clrp.evaluation.results.records import Record, Recorder, merge, packed_values, read_records
from captum_clrp.evaluation.results.summary import Summary, summarise
from captum_clrp.evaluation.running import provenance
from captum_clrp.evaluation.running.mean_image import mean_image
from captum_clrp.evaluation.running.processes import Team
from captum_clrp.evaluation.running.progress import Progress
from captum_clrp.evaluation.sources import Sample, Source
from captum_clrp.evaluation.sources.loading import ahead
from captum_clrp.evaluation.statistics import Average
from captum_clrp.files import write_whole


@dataclass
class Run:
    """An evaluation that can be stopped and continued.

    Attributes:
        metric: What is measured.
        source: On what.
        bench: With which network and methods.
        folder: Where results go: ``run.json``, ``records/*.jsonl``, ``summary.json``, ``summary.csv``, ``curves.csv``, and
            ``values.json.gz``, all records in one file (:func:`captum_clrp.evaluation.read_values`).
        batch: Images in a batch.
        average: ``"images"`` or ``"classes"``. Default: as the metric says.
        seed: Seed of everything that is random, but for methods, which have theirs.
        team: Processes that share the work.
        cache: Where mean images are kept; ``None`` to keep them nowhere.
        quiet: Whether to show no progress.
        restart: Whether to throw away what an earlier run left in the folder.
    """

    metric: PerImageMetric
    source: Source
    bench: Bench
    folder: Path
    batch: int = 8
    average: Average | None = None
    seed: int = 0
    team: Team = field(default_factory=Team)
    cache: Path | None = None
    quiet: bool = False
    restart: bool = False

    def go(self) -> Summary | None:
        """Measure what has not been measured yet, and summarise.

        Returns:
            The summary, in the leading process; ``None`` in others.

        Raises:
            InvalidInputError: if the folder holds the results of another run, or loses its records to one, or the data cannot be
                used.
        """
        began = time.perf_counter()
        self._prepare()
        done = {record.id for record in self._everything()}
        self._record(done)
        records = self._everything()
        if not self.team.leads:
            return None
        self._check_complete(records)
        summary = summarise(self.metric, records, total=len(self.source), over=self._average, seed=self.seed)
        configuration = self._configuration()
        summary.made_with = configuration | {
            "commit": provenance.commit(),
            "targets": _targets(records),
            "versions": provenance.versions(self.bench.network.device),
            "processes": self.team.size,
            "cost": {
                "seconds": round(time.perf_counter() - began, 3),
                "attribution_seconds": round(self.bench.attribution_seconds, 3),
                "model_seconds": round(self.bench.model_seconds, 3),
                "images": len(records) - len(done),
            },
        }
        self._write(summary)
        write_whole(self.folder / "values.json.gz", packed_values(configuration, records))
        return summary

    @property
    def _average(self) -> Average:
        return self.average or self.metric.average

    # -- the steps -------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Refuse what cannot be measured, and have ready what the metric needs."""
        if self.seed < 0:
            raise InvalidInputError(f"a seed of {self.seed} is negative; give 0 or more")
        if self.batch < 1:
            raise InvalidInputError(f"a batch of {self.batch} images is none; give at least 1")
        self.bench.seed = self.seed
        self._check_data()
        self.metric.check(self.bench)
        self._claim_folder()
        if self.metric.needs_mean and self.bench.mean is None:
            self._find_mean()

    def _record(self, done: set[str]) -> None:
        """Measure this process's part of what is not done, and write it down as it comes."""
        pending = self.team.broadcast(self._pending(done))
        with (
            Recorder(self.folder / "records" / f"process-{self.team.rank:05d}.jsonl") as recorder,
            Progress(len(self.source), len(done), self.team, quiet=self.quiet) as progress,
        ):
            for samples in ahead(self._read, self.team.share(pending)):
                for record in self._measure(samples):
                    if record.id not in done:
                        recorder.add(record)
                        progress.add(1)

    def _check_complete(self, records: Sequence[Record]) -> None:
        """Refuse to summarise where records are missing, or hold nothing.

        Raises:
            InvalidInputError: saying why.
        """
        if len(records) < len(self.source):
            raise InvalidInputError(
                f"{len(self.source) - len(records)} of {len(self.source)} images have no record in {self.folder}, which "
                "another run may have begun anew; start again with the same arguments, or in another folder"
            )
        if not any(record.measured for record in records):
            reasons = Counter(reason for record in records for reason in record.skipped)
            why = ", ".join(f"{count} x {reason}" for reason, count in reasons.items())
            raise InvalidInputError(f"nothing could be measured on {self.source.name}: {why or 'it has no images'}")

    def _configuration(self) -> dict[str, Any]:
        """What decides about the numbers; two runs that differ in it are never mixed."""
        methods, network = self.bench.methods, self.bench.network
        with Progress(len(self.source), 0, self.team, quiet=self.quiet, what="looking at the data") as progress:
            fingerprint = self.source.fingerprint(progress.add)
        return {
            "metric": self.metric.name,
            "settings": self.metric.settings(),
            "data": self.source.name,
            "data_settings": self.source.settings(),
            "images": len(self.source),
            "data_fingerprint": fingerprint,
            "model": network.name,
            "preprocessing": f"{network.geometry}, mean {network.mean}, std {network.std}",
            "weights": network.weights,
            "weights_checksum": network.checksum(),
            "methods": methods.names if methods else [],
            "method_settings": methods.settings() if methods else {},
            "batch": self.batch,
            "average": self._average,
            "seed": self.seed,
            "device": network.device.type,
            "packages": provenance.packages(),
        }

    def _check_data(self) -> None:
        """Refuse data without what the metric needs, names that are not unique, and classes numbered for another network.

        Raises:
            InvalidInputError: saying what is missing.
        """
        name, count = Counter(self.source.ids).most_common(1)[0] if len(self.source) else ("", 0)
        if count > 1:
            raise InvalidInputError(
                f"{count} images of {self.source.name} are called {name!r}; results are kept by name, so give each its own"
            )
        outputs, classes = len(self.bench.network.class_names), self.source.own_classes
        if classes is not None and outputs and classes != outputs:
            raise InvalidInputError(
                f"{self.source.name} numbers {classes} classes of its own, and {self.bench.network.name} has {outputs} "
                "outputs; say which class is which output (a class map), or use a network for this dataset"
            )
        if self.metric.needs_places and not self.source.has_places:
            raise InvalidInputError(
                f"{self.metric.name} needs to know where objects are, and {self.source.name} has no boxes; use a dataset "
                "with boxes, or another metric (grid, ablation, insertion-deletion and similarity need none)"
            )

    def _claim_folder(self) -> None:
        """Write down what this run is, or find that the folder's run is the same."""
        problem = None
        if self.team.leads:
            try:
                problem = self._conflict()
            except OSError as error:
                problem = f"{self.folder} cannot be used for results ({error.strerror}); choose another folder"
        problem = self.team.broadcast(problem)
        if problem:
            raise InvalidInputError(problem)

    def _conflict(self) -> str | None:
        path = self.folder / "run.json"
        if self.restart and path.is_file():
            for old in ("records", "figures"):
                shutil.rmtree(self.folder / old, ignore_errors=True)
            for name in ("summary.json", "summary.csv", "curves.csv", "values.json.gz", "run.json"):
                (self.folder / name).unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK):
            return f"nothing may be written in {self.folder}; choose another folder"
        if not path.is_file() and any((self.folder / "records").glob("*.jsonl")):
            return (
                f"{self.folder} holds the records of a run without its run.json, so that nothing says what they are of; "
                f"choose another folder, or delete {self.folder / 'records'}"
            )
        configuration = self._configuration()
        if not path.is_file():
            write_whole(path, json.dumps(configuration, indent=1) + "\n")
            return None
        try:
            before = json.loads(path.read_text())
        except ValueError:
            before = {}
        different = list(_differences(before if isinstance(before, dict) else {}, configuration))
        if not different:
            return None
        return (
            f"{self.folder} holds another run, which differs in {', '.join(different)}; choose another folder, or "
            "restart, which throws its results away"
        )

    def _find_mean(self) -> None:
        with Progress(len(self.source), 0, self.team, quiet=self.quiet, what="mean image") as progress:
            pixels = mean_image(self.source, cache=self.cache, team=self.team, progress=progress.add)
        self.bench.mean = self.bench.network.inputs(pixels)

    def _everything(self) -> list[Record]:
        """Records on all hosts: each host's first process tells what lies there."""
        self.team.wait()  # until no process of this host is still writing
        mine = read_records(self.folder / "records") if self.team.local_rank == 0 else []
        wanted = set(self.source.ids)
        return [record for record in merge(self.team.gather(mine)) if record.id in wanted]

    def _pending(self, done: set[str]) -> list[list[int]]:
        """Batches with an image that is not done; all of a batch is measured again, which gives the same numbers."""
        positions = range(len(self.source))
        batches = [list(positions[i : i + self.batch]) for i in range(0, len(positions), self.batch)]
        return [b for b in batches if any(self.source.ids[i] not in done for i in b)]

    def _read(self, positions: Sequence[int]) -> list[tuple[int, Sample]]:
        return [(i, self.source.sample(i)) for i in positions]

    def _measure(self, samples: Sequence[tuple[int, Sample]]) -> list[Record]:
        """Records of a batch, in its order."""
        usable = []
        reasons: dict[int, list[str]] = {}
        for index, sample in samples:
            reasons[index] = ["object cropped away"] * len(sample.cropped_away)
            if self.metric.needs_places:
                placed = tuple(e for e in sample.explained if e.mask is not None)
                reasons[index] += ["place of the object unknown"] * (len(sample.explained) - len(placed))
                sample = Sample(sample.id, sample.pixels, placed, sample.cropped_away)
            if sample.explained or self.metric.chooses_classes:
                usable.append((index, sample))
            elif not reasons[index]:
                reasons[index] = ["no class to explain"]
        self._check([sample for _, sample in usable])
        measured: dict[int, tuple[Measured, ...]] = {}
        # Images with as many classes to explain share the passes; where the experiment chooses classes, all do.
        alike: dict[int, list[tuple[int, Sample]]] = {}
        for index, sample in usable:
            count = 0 if self.metric.chooses_classes else len(sample.explained)
            alike.setdefault(count, []).append((index, sample))
        for group in alike.values():
            of_group = [sample for _, sample in group]
            found = self.metric.measure_batch(self.bench, of_group)
            logits = self.bench.said_of(of_group)
            measured |= {
                index: tuple(_standing(m, of_image) for m in of_classes)
                for (index, _), of_classes, of_image in zip(group, found, logits, strict=True)
            }
        return [Record(sample.id, index, measured.get(index, ()), tuple(reasons[index])) for index, sample in samples]

    def _check(self, samples: Sequence[Sample]) -> None:
        """Refuse images of different sizes in a batch, and classes that the network does not have."""
        sizes = {tuple(sample.pixels.shape) for sample in samples}
        if len(sizes) > 1:
            raise InvalidInputError(
                f"images of a batch differ in size ({', '.join(map(str, sorted(sizes)))}); use a geometry "
                "with a crop, or a batch of 1"
            )
        outputs = len(self.bench.network.class_names)
        for sample in samples:
            for e in sample.explained:
                if outputs and not 0 <= e.label < outputs:
                    raise InvalidInputError(
                        f"{sample.id} shows class {e.label} ({e.name}), but {self.bench.network.name} has {outputs} "
                        "outputs; use a network for this dataset, or a class map"
                    )

    def _write(self, summary: Summary) -> None:
        write_whole(self.folder / "summary.json", summary.json())
        write_whole(self.folder / "summary.csv", summary.csv())
        if summary.curves:
            write_whole(self.folder / "curves.csv", summary.curves_csv())


def _targets(records: Sequence[Record]) -> dict[str, int]:
    """How the network stands to the classes that were explained."""
    measured = [m for record in records for m in record.measured]
    return {
        "explained": len(measured),
        "top_class": sum(m.top for m in measured),
        "negative_score": sum(m.negative for m in measured),
    }


def _standing(measured: Measured, logits: Tensor) -> Measured:
    """With what the network itself says of the class: logits ``(m,)``."""
    if not 0 <= measured.label < len(logits):
        return measured
    score = logits[measured.label]
    return replace(measured, top=bool(score >= logits.max()), negative=bool(score < 0))


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What differs, with both values where they are short."""
    for key, value in now.items():
        old = before.get(key)
        if isinstance(value, dict):
            old = old if isinstance(old, dict) else {}
            yield from _differences({name: old.get(name) for name in {**old, **value}}, dict.fromkeys(old) | value)
        elif key == "data_fingerprint" and old != value:
            yield "data_fingerprint (the photographs, their classes or their places)"
        elif json.loads(json.dumps(value)) != old:
            values = f" ({json.dumps(old)} there, {json.dumps(value)} here)"
            yield key + (values if len(values) <= _SHORT else "")


_SHORT = 80

"""How many visitors the page of ``captum-clrp serve`` bears: visits per second and how long each waits.

    python -m benchmarks.page                            # two minutes on two idle cores
    python -m benchmarks.page --users 1 4 --visits 4

A visit is what happens when somebody drops a photograph: it is sent, the network's classes come back, then the explanation of
the two leading ones: maps, figure, files. The server runs in a process of its own on this computer. Each user has photographs
that nobody else sends, one visit after the other; in the last two cases the same ones come again, whose maps the page still
has, and then more users than may wait. Writes ``page-cpu.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import ImageChops

from benchmarks import report
from captum_clrp.evaluation import Embedded

PATIENCE = 300
"""Seconds to wait until the page is there, and for each of its answers."""


@contextlib.contextmanager
def served(arguments: Sequence[str]) -> Iterator[str]:
    """The address of a page, while a Python with these ``arguments`` serves it.

    Raises:
        RuntimeError: if it does not come.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True)
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()], daemon=True).start()
        try:
            until = time.monotonic() + PATIENCE
            while process.poll() is None and time.monotonic() < until:
                with contextlib.suppress(queue.Empty):
                    if "-> http" in (line := lines.get(timeout=1)):
                        yield line.split()[1]
                        return
            errors.seek(0)
            raise RuntimeError(f"no page came: {errors.read()[-500:]}")
        finally:
            process.terminate()
            process.wait()


def serving(model: str) -> list[str]:
    """Arguments of Python to serve a network by name, at a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return ["-m", "captum_clrp", "serve", "--model", model, "--device", "cpu", "--port", str(port)]


def photographs(folder: Path, count: int) -> list[Path]:
    """Files of ``count`` photographs, no two of them alike."""
    known = Embedded(collages=False)
    files = []
    for number in range(count):
        picture = known[number % len(known)].read()
        files.append(folder / f"{number:03d}.jpg")
        ImageChops.offset(picture, 3 * number, 0).save(files[-1], quality=90)
    return files


def visit(client: Any, photograph: Path) -> float:
    """Seconds from sending a photograph to its explanation."""
    from gradio_client import handle_file

    began = time.perf_counter()
    classes, _ = client.predict(handle_file(photograph), api_name="/looked")
    picture, *_ = client.predict(handle_file(photograph), classes["value"], api_name="/drawn")
    if not Path(picture).stat().st_size:
        raise RuntimeError(f"the page has sent an empty picture of {photograph.name}")
    return time.perf_counter() - began


def at_once(address: str, of_users: Sequence[Sequence[Path]], case: str) -> dict[str, Any]:
    """What users who come together see, each with photographs of its own, one visit after the other."""
    from gradio_client import Client

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(of_users)) as users:
        clients = list(
            users.map(
                lambda _: Client(address, verbose=False, download_files=folder, httpx_kwargs={"timeout": PATIENCE}),
                of_users,
            )
        )
        together = threading.Barrier(len(of_users) + 1)
        took: list[float] = []
        refused: list[str] = []

        def user(client: Any, own: Sequence[Path]) -> None:
            together.wait()
            for photograph in own:
                try:
                    took.append(visit(client, photograph))
                except Exception as error:
                    refused.append(" ".join(str(error).split())[:200])

        done = [users.submit(user, *one) for one in zip(clients, of_users, strict=True)]
        began = time.perf_counter()
        together.wait()
        for one in done:
            one.result()
        seconds = time.perf_counter() - began
    return {"case": case, "users": len(of_users), "seconds": seconds, "took": took, "refused": refused}


def measure(address: str, users: Sequence[int], visits: int, crowd: int) -> list[dict[str, Any]]:
    """All cases, one after the other; ``visits`` in each, or one of each user if they are more.

    Raises:
        RuntimeError: if the page does not answer afterwards.
    """
    each = [max(1, visits // count) for count in users]
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        first, *files = photographs(Path(folder), 1 + sum(n * count for n, count in zip(each, users, strict=True)))
        at_once(address, [[first]], "first")  # what is made at first use
        for n, count in zip(each, users, strict=True):
            of_users = [[files.pop() for _ in range(n)] for _ in range(count)]
            found.append(at_once(address, of_users, "photographs of their own"))
        found.append(at_once(address, of_users, "the same ones again"))
        if crowd:
            found.append(at_once(address, [[first]] * crowd, "a crowd, one known photograph"))
        last = at_once(address, [[first]], "after all of them")
    if last["refused"]:
        raise RuntimeError(f"the page does not answer any more: {last['refused'][0]}")
    return found


def markdown(document: Mapping[str, Any]) -> str:
    """The report."""
    cases = document["cases"]
    rows = [
        [
            one["case"],
            one["users"],
            len(one["took"]),
            f"{len(one['took']) / one['seconds']:.2f}",
            f"{statistics.median(one['took']):.1f}" if one["took"] else "",
            f"{max(one['took']):.1f}" if one["took"] else "",
            len(one["refused"]),
        ]
        for one in cases
    ]
    fresh = [len(one["took"]) / one["seconds"] for one in cases if one["case"] == "photographs of their own"]
    reasons = sorted({reason for one in cases for reason in one["refused"]})
    told = (
        f"Visitors beyond the queue were told: *{'; '.join(reasons).rstrip('.')}*."
        if reasons
        else "Nobody was turned away."
    )
    return "\n".join(
        [
            "# The page with several users\n",
            "One visitor is served at a time, so those who come together wait for each other: the page explained "
            f"{min(fresh):.2f} to {max(fresh):.2f} new photographs a second. {told} "
            "After all of these cases the page answered as before.\n",
            report.markdown_table(
                [
                    "users with",
                    "users at once",
                    "visits",
                    "visits per s",
                    "middle one, s",
                    "longest, s",
                    "told to come again",
                ],
                rows,
            ),
            "A visit: a photograph is sent, the classes come back, then maps of the two leading ones, figure and files. "
            "Rows are measured one after the other and by the clock: on a machine that others use meanwhile all of it takes "
            "several times as long, and rows cannot be compared. "
            f"{document['model']}. {report.describe(document['environment'])} Made with:\n\n"
            f"```bash\n{document['command']}\n```\n",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--model", default="tf_efficientnet_lite0", help="a network by name (%(default)s)")
    add("--users", nargs="+", type=int, default=[1, 4, 16], metavar="N", help="who come at once (1 4 16)")
    add(
        "--visits",
        type=int,
        default=4,
        metavar="N",
        help="in each case, shared by its users, at least one each (%(default)s)",
    )
    add("--crowd", type=int, default=48, metavar="N", help="users of the last case (%(default)s; 0 for none)")
    add("--output", type=Path, default=Path("benchmarks/results"), help="folder for the reports")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with served(serving(options.model)) as address:
        cases = measure(address, options.users, options.visits, options.crowd)
    document = {
        "environment": report.environment(),
        "command": report.command_line("benchmarks.page", given),
        "model": options.model,
        "cases": cases,
    }
    return report.finish(options.output / "page-cpu.json", document, markdown(document))


if __name__ == "__main__":
    raise SystemExit(main())

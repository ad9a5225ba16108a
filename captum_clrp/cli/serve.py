"""``captum-clrp serve``: a page to explore explanations in the browser."""

from __future__ import annotations

import argparse
import ipaddress
import sys
import threading
from typing import Any

from captum_clrp.cli.errors import CommandError
from captum_clrp.cli.options import add_model_options, asked_classifier, default_device, number
from captum_clrp.errors import how_to_install

_DESCRIPTION = """\
Serve a page to explore: drop a photograph, choose classes and what to contrast them with, and see which parts are
evidence for each. Only this computer can reach it; it loads nothing from elsewhere, and explains one network.
"""
_EPILOG = """\
examples:
  captum-clrp serve
  captum-clrp serve --model resnet50 --port 8000
  captum-clrp serve --host 0.0.0.0     (whoever reaches this computer may use the page)
"""
_HERE = "127.0.0.1"


def add_parser(subparsers: Any) -> None:
    """Add the ``serve`` command to the parser of ``captum-clrp``."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a page to explore explanations in the browser",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host",
        default=_HERE,
        metavar="ADDRESS",
        help="address to listen at; any other than the default lets other computers use the page, without a password "
        "(default: %(default)s, this computer alone)",
    )
    parser.add_argument(
        "--port",
        type=number(int, "no port; give a number from 1 to 65535", 1, 65535),
        metavar="N",
        help="port to listen at (default: the first free one from 7860)",
    )
    add_model_options(parser)
    parser.set_defaults(run=run, needs=("captum_clrp.app.page", "timm"), interrupted="the page is no longer served")


def run(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C.

    Raises:
        CommandError: without the extra ``app``, for a network that cannot be had, or a port that is taken.
    """
    try:
        from captum_clrp.app.page import start
    except ImportError as error:
        raise CommandError(f"serve needs the extra app; {how_to_install('app')} ({error})") from error
    from captum_clrp.app.explorer import Explorer

    classifier = asked_classifier(options, options.device or default_device())
    try:
        page = start(Explorer(classifier, _expression(options)), options.host, options.port)
    except OSError as error:
        place = f"{options.host}, port {options.port or 'any from 7860'}"
        raise CommandError(
            f"{place} cannot be listened at; give another --port, or an address of this computer"
        ) from error
    sys.stdout.write(f"{classifier.name}, weights: {classifier.weights}\n-> {page.local_url}  (Ctrl-C ends it)\n")
    if not _is_here(options.host):
        sys.stdout.write(
            "whoever reaches this computer may upload photographs and use its network; there is no password\n"
        )
    sys.stdout.flush()
    try:
        threading.Event().wait()
    finally:
        page.close(verbose=False)
    return 0


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _expression(options: argparse.Namespace) -> str:
    """The Python expression that has the same network."""
    given = [f"{options.model!r}"]
    names = ("weights", "preprocessing", "mean", "std", "size", "crop")
    given += [f"{name}={getattr(options, name)!r}" for name in names if getattr(options, name) is not None]
    if options.labels is not None:
        given.append(f"class_names=Path({options.labels!r}).read_text().splitlines()")
    return f"load_classifier({', '.join(given)})"

"""python -m virtual_threading: the command line."""

import argparse
import sys


def _demo(args):
    from . import demo
    try:
        demo.run(directory=args.directory, in_flight=args.in_flight,
                 sleepers=args.sleepers, compare=not args.no_compare)
    except demo.Failure as exc:
        print(f"demo failed: {exc}", file=sys.stderr)
        return 1
    return 0


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


_positive.__name__ = "number"       # argparse names it in its messages


def _parser():
    parser = argparse.ArgumentParser(prog="python -m virtual_threading")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        'demo', help="serve and fetch the standard library, and let many threads sleep",
        description="Serves the standard library by http.server and fetches it by "
                    "urllib.request, on virtual threads and on OS threads; then lets "
                    "virtual threads sleep and count.  Exit code 1 if anything differs.")
    command.set_defaults(func=_demo)
    command.add_argument('--directory', help="serve this directory instead")
    command.add_argument('--in-flight', type=_positive, default=1000, metavar="N",
                         help="requests at once (default: %(default)s)")
    command.add_argument('--sleepers', type=_positive, default=100_000, metavar="N",
                         help="threads that sleep (default: %(default)s)")
    command.add_argument('--no-compare', action='store_true',
                         help="do not fetch by ThreadPoolExecutor, too")
    return parser


def main(argv=None):
    args = _parser().parse_args(argv)
    try:
        return args.func(args)
    except KeyboardInterrupt:
        return 130


if __name__ == '__main__':
    sys.exit(main())

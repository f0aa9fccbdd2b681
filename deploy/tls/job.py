"""The certificate files of a cluster inside one batch job, for the job's script.

``python -m deploy.tls.job TLS FOLDER`` prints the paths of CA, certificate and key, one per line.
If TLS is ``auto``, it makes them in FOLDER first, which the script removes at its end.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import ClusterError

from .files import AUTO, find_files
from .keys import make_keys


def main(arguments: Sequence[str]) -> int:
    """Make or find the files; return the exit code."""
    tls, folder = arguments
    try:
        if tls == AUTO:
            make_keys(Path(folder))
        files = find_files(folder if tls == AUTO else tls)
    except ClusterError as error:
        print(f"overtile: {error}", file=sys.stderr)
        return 2
    print(files.ca, files.certificate, files.key, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

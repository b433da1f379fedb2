"""Ask one address whether a process is well: ``python -m dicom_node.probe URL``.

For containers, whose health checks find no other program. Exit status 0 for an answer of success.
"""

import ssl
import sys
import urllib.request
from typing import Final

_TIMEOUT_S: Final = 8.0


def is_well(url: str) -> bool:
    """Say whether ``url`` answers with success.

    Parameters
    ----------
    url : str
        Of this host, so that the certificate need not be looked at.
    """
    if not url.startswith(("http://", "https://")):
        return False
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S, context=trusting):  # noqa: S310
            return True
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(0 if len(sys.argv) == 2 and is_well(sys.argv[1]) else 1)

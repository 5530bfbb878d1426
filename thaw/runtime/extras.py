"""How to install what need not be installed: the packages of an extra, by the names that they have themselves.

pip would take the bare name of this package for another program, which PyPI has under that name.
"""

from importlib.metadata import requires

NAME = "thaw"
S3 = "s3"  # the extra
# What fsspec reads an object store with, by the protocol of its address: a package, or the extra that has it.
CLIENTS = {"s3": S3, "s3a": S3, "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}


def install(extra: str) -> str:
    """Return the command that installs what an extra of the package needs, as the installed package states it.

    Args:
        extra: such as ``ray``.
    """
    stated = (each.partition(";") for each in requires(NAME) or ())
    wanted = [requirement.strip() for requirement, _, marker in stated if f'extra == "{extra}"' in marker]
    return f"pip install {' '.join(map(repr, wanted))}"


def install_client(protocol: str) -> str:
    """Return the command that installs the client of an object store; empty where none is known.

    Args:
        protocol: of its address, such as ``s3``.
    """
    client = CLIENTS.get(protocol, "")
    return install(client) if client == S3 else f"pip install {client}" if client else ""

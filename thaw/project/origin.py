"""Where the installed package came from: what a project asks pip for, and how an extra of the package is installed.

The package is installed from its repository, by a clone or a wheel. Of its bare name pip would make another program,
which PyPI has under that name.
"""

import json
from importlib.metadata import distribution, requires

NAME = "thaw"


def requirement() -> str:
    """Return the requirement by which pip installs this very package; empty where only this machine has it.

    It is the commit of a repository, or the address of a wheel with its hash, if pip was given one (PEP 610).
    """
    told = json.loads(distribution(NAME).read_text("direct_url.json") or "{}")
    address, commit = str(told.get("url", "")), told.get("vcs_info", {})
    if address.startswith("file:") or "://" not in address:
        return ""
    if commit:
        return f"{NAME} @ {commit['vcs']}+{address}@{commit['commit_id']}"
    digest = told.get("archive_info", {}).get("hashes", {}).get("sha256", "")
    return f"{NAME} @ {address}{f'#sha256={digest}' if digest else ''}"


def install_extra(name: str) -> str:
    """Return the command that installs what an extra of the package needs, by the names of these packages.

    Args:
        name: such as ``ray``.
    """
    stated = (each.partition(";") for each in requires(NAME) or ())
    wanted = [requirement.strip() for requirement, _, marker in stated if f'extra == "{name}"' in marker]
    return f"pip install {' '.join(map(repr, wanted))}"

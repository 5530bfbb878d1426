"""Where the installed package came from: what a project asks pip for.

The package is installed from its repository, by a clone or a wheel. Of its bare name pip would make another program,
which PyPI has under that name.
"""

import json
from importlib.metadata import distribution

from thaw.runtime.extras import NAME


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

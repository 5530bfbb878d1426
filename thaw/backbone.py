"""``python -m thaw.backbone [NAME [SIZE]]`` prints the table of networks, or the blocks of one."""

import sys

from thaw.commands import backbones

if __name__ == "__main__":
    try:
        backbones.main(sys.argv[1:])
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"thaw.backbone: {' '.join(str(error).split())}")

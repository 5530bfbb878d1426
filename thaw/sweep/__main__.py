"""``python -m thaw.sweep [group.field=value,value …]`` runs a sweep, as ``thaw.sweep.multirun`` says."""

from thaw.sweep import multirun

if __name__ == "__main__":
    multirun.main()

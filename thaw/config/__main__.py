"""``python -m thaw.config [group=option key=value …]`` compiles conf/ to params.yaml."""

from thaw.config import load

if __name__ == "__main__":
    load.run(load.main, "thaw.config")

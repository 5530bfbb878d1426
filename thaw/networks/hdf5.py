"""Check that an HDF5 file holds what it names, before weights are read from it.

Such a file may name data of another file, by a link, a virtual dataset or external storage. Who loads weights from a
stranger would put bytes of any file that he may read into a model, and hand them on with it.
"""

from pathlib import Path

import h5py


def check_contained(path: Path) -> None:
    """Require that nothing in the file lies outside of it.

    Raises:
        ValueError: something does.
        OSError: it is no HDF5 file.
    """
    with h5py.File(path, "r") as file:
        waiting, seen = [file["/"]], set()
        while waiting:
            group = waiting.pop()
            for name in group:
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise ValueError(f"expected data of its own, received the link {group.name}/{name} to other data")
                item = group[name]
                if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
                    raise ValueError(f"expected data of its own, received {item.name}, which is in another file")
                place = h5py.h5o.get_info(item.id).addr
                if isinstance(item, h5py.Group) and place not in seen:
                    seen.add(place)
                    waiting.append(item)

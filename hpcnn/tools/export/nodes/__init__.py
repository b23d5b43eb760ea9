"""hpcnn's own layers as operations of ONNX, family by family."""

from hpcnn.tools.export.nodes.network import add_network

__all__ = ["add_network"]

"""Quantized weights: `layouts/`, the few ways in which a linear layer holds its weight.

A checkpoint *format* is repacked into a layout while it loads; kernels know layouts alone.
"""

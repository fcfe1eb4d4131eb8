"""The linear layer, y = x W^T + b, over every weight layout."""

"""Numbers that all samplers go by: of the noise, as `noise` explains them, and of a row."""

LANE = 8
STREAM = 0  # the counter's last word; other uses of noise take other streams
ROUNDS = 10

GREEDY_BELOW = 1e-5  # temperature
NOT_A_NUMBER = -1  # in place of a token id

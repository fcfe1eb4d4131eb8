"""Sizes of the Triton sampling kernels."""

TILE_GROUPS = 128  # groups a program handles at a time
NUM_WARPS = 8
FEW_GROUPS = 256  # a row with no more candidate groups is drawn by one program
RACES = 2  # over whole rows, before one program goes on alone
PROGRAMS = 2048  # of a race
DRAW_REGISTERS = 80

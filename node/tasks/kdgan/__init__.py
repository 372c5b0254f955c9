"""KDGAN (Wang, Zhang, Sun, Qi, NeurIPS 2018): a light classifier learns from a teacher and a discriminator.

Begin reading at `losses.py`, which is the paper's mathematics, then `task.py`, which plays it.
"""

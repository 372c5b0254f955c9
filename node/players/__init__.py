"""A task's players exchanged each in its own way: by an algorithm, a codec, a topology and a period of its own.

`config` says what a spec may ask, `parts` cuts the flat vector into the players' parts, `driver` runs an algorithm
for each part side by side, `traffic` says what all of them send together. Importing this package imports no torch.
"""

"""Families: all that is asked about a layer, a loss, an optimizer or a whole training, one folder for each.

To add a layer, write its folder below `nn` and one line in `listing.TABLE`:

- `cases.py`: CASES, the inputs at which engines are compared (`case`);
- `faults.py`: FAULTS, the known mistakes in it (`fault`);
- `formulas.py`: WEAKER and CONVENTIONS, other formulas that engines use for it (`formula`); it may be left out;
- `transcription.py`: LAYERS, its forward once more from torch's documentation (`scalars`); it may be left out.
"""

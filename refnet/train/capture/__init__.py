"""A training step recorded once and replayed.

The plain definitions run once on arrays that note down every NumPy operation (`recorder`, `recording`). What comes of
it is a program (`program`): operations on memory, simplified only where every bit stays the same. `replay` lays the
memory out and turns the program into one Python function that calls the very ufuncs of the plain step, each into a
buffer that is there already; `native` makes machine code of it. `captured` puts these in the place of a plain step of
`refnet.fit` and compares them before relying on them. There is no second definition of anything: what the plain lines
do is what is recorded.
"""

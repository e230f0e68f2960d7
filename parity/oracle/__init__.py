"""Truth: enclosures in ball arithmetic, independent of every engine."""

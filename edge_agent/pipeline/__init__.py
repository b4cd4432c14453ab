"""From drivers to the journal and the health model: sampler -> fan-out -> (journal | rows -> scoring)."""

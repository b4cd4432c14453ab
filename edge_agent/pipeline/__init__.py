"""From drivers to the journal, and to the health model: sampler -> fan-out -> (journal | features -> scoring)."""

"""Pure parts: no I/O, no await, no DICOM library. What the other rooms agree on."""
